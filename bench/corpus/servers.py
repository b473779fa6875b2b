"""What the build of an application fetches from servers, on control: a Git repository and the headers of Node.js."""

from __future__ import annotations

import base64
import hashlib
import io
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.fleet import Fleet
from tests.harness.corpus import make_repository
from tests.harness.hosts import ssh
from tests.harness.plays import TOP

ARCHIVES = TOP / ".cache" / "archives"
SERVED = "/srv/corpus"
PORT = 8085
ADDRESS = f"http://127.0.0.1:{PORT}"
NODE = "8.11.1"


@contextmanager
def servers(fleet: Fleet) -> Iterator[None]:
    """On control, by HTTP: the repository of a dependency, and the headers of Node.js as their vendor serves them."""
    with tempfile.TemporaryDirectory() as folder:
        content = io.BytesIO()
        with tarfile.open(fileobj=content, mode="w:gz") as archive:
            repository(Path(folder, "greeting.git"))
            archive.add(Path(folder, "greeting.git"), "greeting.git")
            headers(Path(folder, "node", f"v{NODE}"))
            archive.add(Path(folder, "node"), "node")
        unpack = f"rm -rf {SERVED} && mkdir -p {SERVED} && base64 -d | tar -xzf - -C {SERVED}"
        sent = ssh(fleet.inventory, "control1", unpack, base64.b64encode(content.getvalue()).decode())
        assert sent.returncode == 0, sent.stderr
    control, unit = fleet.hosts("control")["control1"], "corpus-server"
    listen = f"/usr/bin/python3 -m http.server {PORT} --bind 127.0.0.1 --directory {SERVED}"
    control.check_output(f"systemd-run --quiet --collect --unit={unit} {listen}")
    try:
        yield
    finally:
        control.run(f"systemctl stop {unit}; rm -rf {SERVED}")


def repository(folder: Path) -> None:
    """A bare repository that plain HTTP can serve."""
    work = folder.with_name("work")
    make_repository(work)
    subprocess.run(["git", "clone", "--quiet", "--bare", work, folder], check=True)
    subprocess.run(["git", "-C", folder, "update-server-info"], check=True)


def headers(folder: Path) -> None:
    """The archive that node-gyp downloads, with its checksum beside it."""
    folder.mkdir(parents=True)
    name = f"node-v{NODE}-headers.tar.gz"
    packed = io.BytesIO()
    path = ARCHIVES / f"nodejs-headers-{NODE}.tar"
    with tarfile.open(path) as inner, tarfile.open(fileobj=packed, mode="w:gz") as outer:
        for member in inner:
            _, _, rest = member.name.removeprefix("./").partition("/")
            if rest and member.isfile():
                content = inner.extractfile(member)
                member.name = f"node-v{NODE}/{rest}"
                outer.addfile(member, content)
    (folder / name).write_bytes(packed.getvalue())
    (folder / "SHASUMS256.txt").write_text(f"{hashlib.sha256(packed.getvalue()).hexdigest()}  {name}\n", "utf-8")

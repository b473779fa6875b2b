"""Each application of the corpus on the fleet: deployed, used, and under load rolled out, killed and scaled in."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import secrets
import shutil
import ssl
import subprocess
import tarfile
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.applications import done
from bench.fleet import Fleet, Row
from lab import archives
from tests.harness.deploys import releases_of
from tests.harness.hosts import ssh
from tests.harness.load import load
from tests.harness.plays import TOP

APPS = TOP / "tests" / "fixtures" / "apps"
ARCHIVES = TOP / ".cache" / "archives"
RATE = 30  # requests a second: three instances' worth, so that a scale-in to two under it is a busy one
WRITABLE = "/var/lib/corpus-uploads"
SERVED = "/srv/corpus"  # on control, where the build fetches what an application takes from a server
PORT = 8085
NODE = "8.11.1"

# One configuration for all, as an inventory would give it. The application's own variables are not secrets of anybody.
SETTINGS: dict[str, Any] = {
    "phoenix_release_command": "npm run migrate --if-present",
    "phoenix_writable_paths": [WRITABLE],
    "phoenix_environment": {"SESSION_SECRET": secrets.token_hex(16)},
    "nginx_paths": [{"path": "/files", "body_max": "64m"}],
    "nginx_affinity": "cookie",
    "release_build_packages": ["make", "g++", "python3"],
    # What comes is another application, which may take longer than the one before it.
    "deploy_canary_latency_allowance": 2.0,
    # Headers of Node.js, which the lab's archive lacks.
    "release_environment": {"npm_config_disturl": f"http://127.0.0.1:{PORT}/node"},
}
TAGS = ("--tags", "toolkit,phoenix,nginx,release")


def of_archive(component: archives.Component) -> tuple[str, str]:
    """Path and checksum of an archive of the lab's cache."""
    path = ARCHIVES / component.filename
    return str(path), f"sha256:{archives.sha256(path)}"


def current_node() -> dict[str, Any]:
    """The settings of a release for the current Node.js."""
    found = {one.name: one for one in archives.FOR_APPLICATIONS if one.name in ("nodejs", "npm")}
    values: dict[str, Any] = {}
    for prefix, name in (("nodejs", "nodejs"), ("release_npm", "npm")):
        values[f"{prefix}_version"] = found[name].version
        values[f"{prefix}_archive"], values[f"{prefix}_archive_checksum"] = of_archive(found[name])
    return values


class Client:
    """A browser without a screen: it keeps cookies, and accepts the lab's certificate."""

    def __init__(self, url: str) -> None:
        self.url = url
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        self.opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}),
            urllib.request.HTTPSHandler(context=context),
            urllib.request.HTTPCookieProcessor(),
        )

    def get(self, path: str = "/", data: bytes | None = None, **headers: str) -> str:
        with self.opener.open(urllib.request.Request(self.url + path, data, headers), timeout=60) as answer:
            return str(answer.read().decode())


def upload(client: Client) -> None:
    content = os.urandom(1 << 20) * 50
    head = b'--edge\r\nContent-Disposition: form-data; name="file"; filename="a.bin"\r\n\r\n'
    form = {"Content-Type": "multipart/form-data; boundary=edge"}
    answer = json.loads(client.get("/files", head + content + b"\r\n--edge--\r\n", **form))
    expect(answer, {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()})
    expect(len(client.get("/download?pieces=500")), 500 * 4096)


def visits(client: Client) -> None:
    expect([client.get() for _ in range(3)], [f"visit {number}\n" for number in (1, 2, 3)])


def grows(client: Client) -> None:
    first, second = int(client.get()), int(client.get())
    expect(second > first > 0, True)


def stream(client: Client) -> None:
    request = urllib.request.Request(client.url + "/events", headers={"Accept": "text/event-stream"})
    with client.opener.open(request, timeout=30) as answer:
        seen = b""
        while b"tick 3" not in seen:
            seen += answer.readline()
    expect(client.get("/publish", b""), "published\n")


def poll(client: Client) -> None:
    expect('"upgrades":["websocket"]' in client.get("/socket.io/?EIO=3&transport=polling"), True)


def expect(seen: Any, wanted: Any) -> None:
    if seen != wanted:
        raise AssertionError(f"the application answered {seen!r} instead of {wanted!r}")


def page(text: str) -> Callable[[Client], None]:
    return lambda client: expect(client.get(), text)


def git_source(folder: Path) -> None:
    shutil.copytree(APPS / "git-dependency", folder, ignore=shutil.ignore_patterns("greeting"))
    package = folder / "package.json"
    text = package.read_text(encoding="utf-8")
    package.write_text(text.replace("file:///REPOSITORY", f"http://127.0.0.1:{PORT}/greeting.git"), encoding="utf-8")


def linked_source(folder: Path) -> None:
    """With the link that the documentation advises to commit."""
    shutil.copytree(APPS / "writes-beside", folder)
    (folder / "uploads").symlink_to(WRITABLE)


@dataclass(frozen=True)
class Application:
    """One of the corpus: what it needs, what a client does with it, how its source is made, and its own settings."""

    name: str
    needs: str
    use: Callable[[Client], None]
    make: Callable[[Path], object] | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """Write its source, as it is unless it says how it is made."""
        if self.make:
            self.make(folder)
        else:
            shutil.copytree(APPS / self.name, folder)


CORPUS = (
    Application("no-lock", "a lock file, which the build makes", page("no lock\n")),
    Application(
        "start-shapes",
        "cross-env, node -r, npm's variables",
        lambda client: expect(json.loads(client.get())["preloaded"], True),
    ),
    Application("typescript", "its compiler, for the build alone", page('{"from":"typescript"}')),
    Application("native", "compilers, release_build_packages", page("42\n")),
    Application("git-dependency", "git", page("hello from git\n"), git_source),
    Application("https-redirect", "X-Forwarded-Proto", page("https\n")),
    Application("sessions", "the database", visits),
    Application("socketio", "nginx_affinity", poll),
    Application("streams", "nothing", stream),
    Application("uploads", "nginx_paths", upload),
    Application("migration", "phoenix_release_command", page("schema 2\n")),
    Application(
        "writes-beside", "phoenix_writable_paths", lambda client: expect("/" in client.get(), True), linked_source
    ),
    Application("esm", "a current Node.js and the database", grows, settings=current_node()),
)


def measure(fleet: Fleet) -> list[Row]:
    hosts = fleet.hosts("app")
    (before,) = releases_of(hosts)
    rows: list[Row] = []
    with servers(fleet), tempfile.TemporaryDirectory() as folder:
        try:
            done(fleet, "site", *TAGS, **SETTINGS)
            for one in CORPUS:
                written = Path(folder, one.name)
                one.write(written)
                # The others' results are worth having without it.
                try:
                    rows += seen(fleet, one, written)
                except (AssertionError, OSError, ValueError) as error:
                    print(f"{one.name}: {error!r}", flush=True)
                    rows.append(Row(f"{one.name}: does not work", 1, "", None, str(error)[-200:]))
        finally:
            # With the settings that its plays were given, until the fleet's own ones are back.
            done(fleet, "deploy", phoenix_version=before, **SETTINGS)
            done(fleet, "site", *TAGS)
            done(fleet, "scale", phoenix_capacity=2)
            for host in hosts.values():
                host.run(f"rm -rf {WRITABLE}")
    return rows


def seen(fleet: Fleet, one: Application, folder: Path) -> list[Row]:
    """Roll it out over its predecessor, use it, kill an instance and scale in, each under load."""
    given = {**SETTINGS, **one.settings}
    began = time.monotonic()
    with load(fleet.client(), fleet.url, RATE) as roll:
        done(fleet, "deploy", phoenix_source=str(folder), **given)
    one.use(Client(fleet.url))
    with load(fleet.client(), fleet.url, RATE) as kill:
        fleet.hosts("app")["app1"].check_output("systemctl kill --signal=KILL phoenix@3000")
        time.sleep(5)
    done(fleet, "scale", phoenix_capacity=3, **given)
    with load(fleet.client(), fleet.url, RATE) as scale_in:
        done(fleet, "scale", phoenix_capacity=2, **given)
    one.use(Client(fleet.url))
    note = f"needs {one.needs}; deployed, used before and after, {time.monotonic() - began:.0f} s"
    rows = [
        Row(f"{one.name}: failed in its {name}", result["failed"], "requests", None, f"of {result['sent']}")
        for name, result in (("roll-out", roll), ("kill", kill), ("scale-in", scale_in))
    ]
    return [*rows[:2], Row(rows[2].name, rows[2].value, rows[2].unit, None, f"{rows[2].note}; {note}")]


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
        expect(sent.returncode, 0)
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
    shutil.copytree(APPS / "git-dependency" / "greeting", work)
    git = ["git", "-c", "user.name=Corpus", "-c", "user.email=corpus@example.org"]
    for words in (
        ["init", "--quiet"],
        ["add", "."],
        ["commit", "--quiet", "--message", "First"],
        ["clone", "--quiet", "--bare", ".", str(folder)],
        ["-C", str(folder), "update-server-info"],
    ):
        subprocess.run([*git, *words], cwd=work, check=True)


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

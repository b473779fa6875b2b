"""Applications of many kinds, built by Phoenix's own build and started as an instance is."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tarfile
import tempfile
import time
import urllib.error
import urllib.request
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from lab.ports import free_port
from phoenix.build import archive, release, sandbox, source
from phoenix.common import tar
from phoenix.database import tls
from phoenix.instances import command
from tests.harness import debian
from tests.harness.corpus import APPS
from tests.unit.shared import TOP

ARCHIVES = Path(os.environ.get("PHOENIX_ARCHIVES", TOP / ".cache" / "archives"))
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
START_SECONDS = 30
# Those of tests/fixtures/apps/database-drivers; the first two run on Node.js 8.
DRIVERS = ("mongodb-2.2", "mongodb-3", "mongodb-4", "mongodb-5", "mongodb-6")


def unpack(name: str, folder: Path) -> None:
    """Unpack an archive of the lab without its top folder."""
    archive = ARCHIVES / f"{name}.tar"
    if not archive.is_file():
        pytest.fail(f"{archive} is missing: fetch the archives first (python -m lab archives)")
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["tar", "-xf", archive, "--strip-components=1", "-C", folder], check=True)


def builder() -> pwd.struct_passwd:
    """The user that builds and runs: an unprivileged one where the tests run as root, as on the hosts."""
    return pwd.getpwnam("nobody") if os.getuid() == 0 else pwd.getpwuid(os.getuid())


class Direct(sandbox.Sandbox):
    """Runs commands as the build user, but without a unit of systemd: test_build.py tests that on a fleet."""

    def line(
        self,
        words: Sequence[str],
        environment: Mapping[str, str],
        folder: Path,
        secrets: Mapping[str, Path] = sandbox.NONE,
    ) -> list[str]:
        # In place of LoadCredential.
        given = [f"npm_config_userconfig={secrets['npmrc']}"] if "npmrc" in secrets else []
        if "key" in secrets:
            given.append(f"GIT_SSH_COMMAND={release.ssh(str(secrets['key']), self.folder / 'known_hosts')}")
        return [*as_user(), "env", "-C", str(folder), *given, *words]

    def end(self) -> None:
        pass


def as_user() -> list[str]:
    user = builder()
    change = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
    return change if os.getuid() == 0 else []


def accepts(port: int, process: subprocess.Popen[Any]) -> bool:
    """Wait until connections to the port are accepted; False when the process has ended, or takes too long."""
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), 1).close()
            return True
        time.sleep(0.02)
    return False


@dataclass
class Answer:
    status: int
    body: str
    headers: Any


class _Stay(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


def ask(port: int, path: str = "/", *, headers: Mapping[str, str] | None = None, data: bytes | None = None) -> Answer:
    """One request; redirects are not followed."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data=data, headers=dict(headers or {}))
    opener = urllib.request.build_opener(_Stay, urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=30) as answer:
            return Answer(answer.status, answer.read().decode(), answer.headers)
    except urllib.error.HTTPError as error:
        return Answer(error.code, error.read().decode(), error.headers)


@dataclass
class Built:
    """A release that was built, unpacked as on an application host: nothing of it can be written by the application."""

    folder: Path
    node: Path
    warnings: list[str]
    environment: dict[str, str] = field(default_factory=dict)

    def names(self) -> set[str]:
        return {path.relative_to(self.folder).as_posix() for path in self.folder.rglob("*")}

    def run(self, text: str, **more: str) -> subprocess.CompletedProcess[str]:
        """A one-off command, as `phoenixctl run` hands it to the shell, but without its unit."""
        package = json.loads((self.folder / "package.json").read_text())
        return subprocess.run(
            [*as_user(), "sh", "-c", command.shell_text(package, [text])],
            cwd=self.folder,
            env={**self.base(), "PORT": "0", **more},
            capture_output=True,
            text=True,
            check=False,
        )

    @contextlib.contextmanager
    def running(self, **more: str) -> Iterator[int]:
        """An instance with the environment of the unit phoenix@; yields its port."""
        port = free_port()
        with self.process(str(port), **more) as process:
            if not accepts(port, process):
                process.kill()
                raise AssertionError(f"it does not answer: {process.communicate()[0]}")
            yield port

    @contextlib.contextmanager
    def process(self, port: str, **more: str) -> Iterator[subprocess.Popen[str]]:
        process = subprocess.Popen(
            [*as_user(), str(self.folder / archive.START)],
            cwd=self.folder,
            env={**self.base(), "PORT": port, **more},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            # As systemd: the whole group.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()

    def base(self) -> dict[str, str]:
        path = f"{self.node}/bin:/usr/bin:/bin"
        return {"NODE_ENV": "production", "PATH": path, "HOME": "/tmp", **self.environment}


class Builder:
    """Node.js and npm as on the host that builds."""

    def __init__(self, root: Path, node: str, npm: str, headers: str = "") -> None:
        self.root = root
        self.node = root / "nodejs" / node
        self.npm = root / "npm" / npm
        unpack(f"nodejs-{node}", self.node)
        unpack(f"npm-{npm}", self.npm)
        if headers:
            unpack(f"nodejs-headers-{headers}", self.node)
        (root / "scratch").mkdir(exist_ok=True)
        asked = subprocess.run(["npm", "config", "get", "registry"], capture_output=True, text=True, check=True)
        (root / "npmrc").write_text(f"registry={asked.stdout.strip()}\n")

    def options(self, name: str, **more: Any) -> Namespace:
        values = {
            "version": name,
            "releases": self.root / "releases",
            "scratch": self.root / "scratch",
            "source": self.root / f"{name}.tar",
            "user": builder().pw_name,
            "node": str(self.node),
            "npm": str(self.npm / "bin" / "npm-cli.js"),
            "npmrc": self.root / "npmrc",
            "ca_file": CERTIFICATES,
            "deploy_key": self.root / "no-key",
            "known_hosts": self.root / "known-hosts",
            "build_script": "",
            "check_engines": True,
            "timeout": 300,
            "memory": "2G",
            "pass_environment": [],
            "keep": 100,
            "serving": "",
        }
        return Namespace(**{**values, **more})

    def build(self, folder: Path, **more: Any) -> Built:
        """Pack a folder's source, build it, and unpack the release."""
        options = self.options(folder.name, **more)
        options.releases.mkdir(exist_ok=True)
        options.source.write_bytes(tar.pack(folder, source.members(folder)))
        answer = release.build(options)
        target = self.root / "hosts" / f"{folder.name}-{self.node.name}"
        target.mkdir(parents=True)
        with tarfile.open(options.releases / f"{folder.name}.tar.gz") as archive:
            archive.extractall(target, filter="fully_trusted")
        return Built(target, self.node, answer["warnings"])


@pytest.fixture(scope="session")
def root() -> Iterator[Path]:
    # Not pytest's own folder: only its owner may enter that one.
    folder = Path(tempfile.mkdtemp(prefix="phoenix-apps-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session", autouse=True)
def direct() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(release, "Sandbox", Direct)
        yield


@pytest.fixture(scope="session")
def old(root: Path) -> Builder:
    """Node.js 8.11.1 with its headers, and npm 6: what runs the original application."""
    return Builder(root, "8.11.1", "6.14.18", "8.11.1")


@pytest.fixture(scope="session")
def current(root: Path) -> Builder:
    """A Node.js with long-term support, and its npm."""
    return Builder(root, "24.21.0", "11.21.2")


@dataclass
class Drivers:
    """MongoDB's drivers as applications have them, with the Node.js of each."""

    folder: Path
    old: Path

    def write(self, driver: str, string: str, trusted: Path, prefix: Sequence[str] = ()) -> str:
        """What a program with this driver prints that writes a document. prefix: what the program is started by."""
        trust = {tls.NODE_VARIABLE: str(trusted)}
        with self.start(driver, "write.js", string=string, prefix=prefix, **trust) as program:
            output, errors = program.communicate()
        return output.strip() or errors

    def start(
        self, driver: str, name: str, *arguments: str, string: str, prefix: Sequence[str] = (), **more: str
    ) -> subprocess.Popen[str]:
        """Start a program of the folder with this driver and connection string. more: of its environment."""
        node = str(self.old / "bin" / "node") if driver in DRIVERS[:2] else shutil.which("node")
        assert node
        return subprocess.Popen(
            [*prefix, node, name, driver, *arguments],
            cwd=self.folder,
            env={"PATH": os.environ["PATH"], "DB_CONNECTION_STRING": string, **more},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


@pytest.fixture(scope="session")
def drivers(tmp_path_factory: pytest.TempPathFactory) -> Drivers:
    programs = tmp_path_factory.mktemp("programs")
    unpack("nodejs-8.11.1", programs / "nodejs")
    shutil.copytree(APPS / "database-drivers", programs / "drivers")
    subprocess.run(["npm", "ci", "--no-audit", "--no-fund"], cwd=programs / "drivers", check=True)
    return Drivers(programs / "drivers", programs / "nodejs")


@contextlib.contextmanager
def server(root: Path, version: str, environment: Mapping[str, str] = os.environ) -> Iterator[str]:
    """A real mongod; yields its address."""
    folder = root / f"mongodb-{version}"
    unpack(f"mongodb-{version}", folder)
    (folder / "db").mkdir()
    port = free_port()
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [folder / "bin/mongod", "--dbpath", folder / "db", "--port", str(port), "--bind_ip", "127.0.0.1",
             "--wiredTigerCacheSizeGB", "0.25"],
            stdout=log,
            env=environment,
        )  # fmt: skip
    try:
        if not accepts(port, process):
            pytest.fail((folder / "log").read_text()[-2000:])
        yield f"mongodb://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture(scope="session")
def mongodb(root: Path) -> Iterator[str]:
    with server(root, "6.0.5") as address:
        yield address


@pytest.fixture(scope="session")
def former_mongodb(root: Path) -> Iterator[str]:
    """Of the last series that drivers before 3.1 can talk to."""
    with server(root, "5.0.4", debian.for_former_mongodb()) as address:
        yield address


@pytest.fixture
def variant(root: Path, request: pytest.FixtureRequest) -> Any:
    """Make an application that holds a package.json, and the given files."""

    def make(package: Mapping[str, Any], **contents: str) -> Path:
        folder = Path(tempfile.mkdtemp(prefix="variant-", dir=root))
        (folder / "package.json").write_text(json.dumps({"name": "variant", "version": "1.0.0", **package}))
        for name, text in {"server.js": "", **contents}.items():
            (folder / name).write_text(text)
        return folder

    return make

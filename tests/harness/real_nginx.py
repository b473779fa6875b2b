"""A real nginx with the role's own configuration, and stand-ins for instances behind it: plain processes, no fleet."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lab.ports import free_ports
from phoenix.balancer import upstreams
from tests.harness.waiting import wait_for
from tests.harness.wire import Answer, Client, Request
from tests.unit.shared import TOP, rendered

STAND_IN = TOP / "molecule" / "nginx" / "stand-in" / "upstream.py"
TEMPLATES = TOP / "roles" / "nginx" / "templates"
NAME = "www.example.org"
# Each option that has a part of its own in the configuration.
EVERYTHING = {
    "nginx_affinity": "cookie",
    "nginx_certificates": [{"names": ["other.example.org"], "certificate": "", "key": ""}],
    "nginx_maintenance_visitors": ["192.0.2.0/24"],
    "nginx_paths": [{"path": f"/{name}/", "body_max": "9m", "timeout": "9s", "buffering": False} for name in "abc"],
    "nginx_private_services": [{"path": "/ci", "address": "127.0.0.1", "port": 1, "sources": ["192.0.2.1"]}],
    "nginx_redirects": [{"names": ["example.org"], "to": NAME}],
    "nginx_tls_hsts_seconds": 60,
    "nginx_trusted_proxies": ["192.0.2.0/24"],
    "__nginx_pages": ["413", "429", "502", "503", "504"],
}
# What /slow takes; what is to be too slow waits less.
SLOW_S = 2.5


def listens(port: int, address: str = "") -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((address or "127.0.0.1", port)) == 0


class Instances:
    """Two ordinary instances and a spare."""

    def __init__(self) -> None:
        *self.ordinary, self.spare = free_ports(3)
        self.processes: dict[int, subprocess.Popen[bytes]] = {}

    def start(self, *ports: int) -> None:
        for port in ports:
            role = ["spare"] if port == self.spare else []
            self.processes[port] = subprocess.Popen(
                [sys.executable, STAND_IN, str(port), *role],
                env={**os.environ, "SLOW_S": str(SLOW_S)},
                stderr=subprocess.DEVNULL,
            )
        for port in ports:
            wait_for(lambda port=port: listens(port), 10, f"the stand-in on port {port}")  # type: ignore[misc]

    def stop(self, *ports: int) -> None:
        for port in ports:
            process = self.processes.pop(port)
            process.kill()
            process.wait()

    @contextmanager
    def stopped(self, *ports: int) -> Iterator[None]:
        self.stop(*ports)
        try:
            yield
        finally:
            self.start(*ports)

    def seen(self, *ports: int) -> list[str]:
        """The request lines that these instances got so far, by default all of them."""
        lines: list[str] = []
        for port in ports or self.processes:
            answer = Client(f"http://127.0.0.1:{port}").send(Request(b"/seen"))
            lines += json.loads(answer.raw.split(b"\r\n\r\n", 1)[1])
        return lines


class Site:
    """nginx with the role's templates and these settings, in a folder of its own and on ports of its own."""

    def __init__(
        self,
        program: str,
        folder: Path,
        instances: Instances,
        at: str = "",
        templates: Path = TEMPLATES,
        **settings: Any,
    ) -> None:
        """at: the only address that it listens on, instead of all."""
        self.program, self.folder, self.at, self.templates = program, folder, at, templates
        http, https, status = free_ports(3)
        host = {"name": "app1", "address": "127.0.0.1", "ports": instances.ordinary, "spare_port": instances.spare}
        self.settings = {
            "nginx_http_port": http,
            "nginx_https_port": https,
            "nginx_status_port": status,
            "nginx_server_names": [NAME],
            # Generous, as most requests here are one client's.
            "nginx_client_rate": 10000,
            "nginx_upstream_hosts": [host],
            "__nginx_ordinary": [host],
            "__nginx_spare": [host],
            **settings,
        }
        self.http, self.https = self.settings["nginx_http_port"], self.settings["nginx_https_port"]
        for name in ("phoenix/pages", "tls", "log", "temporary"):
            (folder / name).mkdir(parents=True)
        for status in self.settings.get("__nginx_pages", []):
            (folder / "phoenix" / "pages" / f"{status}.html").write_text(f"<p>our own page for {status}</p>\n")
        (folder / "mime.types").write_text("types { text/html html; }")
        self.certificate("phoenix", NAME)
        names = [one["names"] for one in self.settings.get("nginx_certificates", [])]
        for first, *_ in names + self.settings.get("nginx_acme_names", []):
            self.certificate(first.replace("*", "_"), first, one_file=True)
        self.write()

    def certificate(self, name: str, host: str, one_file: bool = False) -> None:
        key, chain = (
            self.folder / "tls" / f"{name}.{kind}" for kind in (("pem", "pem") if one_file else ("key", "crt"))
        )
        command: list[str | Path] = ["openssl", "req", "-x509", "-newkey", "ec", "-nodes", "-days", "2"]
        command += ["-pkeyopt", "ec_paramgen_curve:prime256v1", "-subj", f"/CN={host}"]
        command += ["-addext", f"subjectAltName=DNS:{host}", "-keyout", key, "-out", chain]
        subprocess.run(command, check=True, capture_output=True)

    def write(self, **settings: Any) -> None:
        """Write the files as the role does, with these settings changed."""
        self.settings |= settings
        for path, text in self.texts().items():
            path.write_text(text)

    def texts(self, **settings: Any) -> dict[Path, str]:
        """What the role would write with these settings changed, the upstreams first, as there."""
        made = {}
        for template, path in (("upstreams.conf.j2", "phoenix/upstreams.conf"), ("nginx.conf.j2", "nginx.conf")):
            text = rendered(self.templates / template, {**self.settings, **settings})
            for theirs, ours in (
                ("user www-data;", "user root;"),
                ("/run/nginx.pid", f"{self.folder}/pid"),
                ("/var/log/nginx", f"{self.folder}/log"),
                ("/etc/nginx", str(self.folder)),
            ):
                text = text.replace(theirs, ours)
            if self.at:
                text = re.sub(r"(?m)^( +listen )([0-9]+)(?=[ ;])", rf"\g<1>{self.at}:\2", text)
            kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
            own = "".join(f"    {kind}_temp_path {self.folder}/temporary/{kind};\n" for kind in kinds)
            made[self.folder / path] = text.replace("\nhttp {\n", f"\nhttp {{\n{own}")
        return made

    def run(self, *arguments: str) -> None:
        done = subprocess.run(
            [self.program, "-q", "-c", self.folder / "nginx.conf", "-e", self.folder / "log" / "error.log", *arguments],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr

    def start(self) -> None:
        self.run("-t")
        self.run()
        wait_for(lambda: listens(self.https, self.at), 10, "nginx")

    def reload(self) -> None:
        """Reload, and wait until the old workers take no requests, as phoenixctl does."""
        master = (self.folder / "pid").read_text().strip()
        old = upstreams.serving(master)
        self.run("-s", "reload")
        wait_for(lambda: bool(now := upstreams.serving(master)) and not now & old, 10, "the new workers")

    def stop(self) -> None:
        if (self.folder / "pid").exists():
            self.run("-s", "stop")
            wait_for(lambda: not (self.folder / "pid").exists(), 10, "nginx's end")

    def client(self, scheme: str = "https", name: str = NAME, seconds: float = 10) -> Client:
        port = self.https if scheme == "https" else self.http
        client = Client(f"{scheme}://{self.at or '127.0.0.1'}:{port}", seconds)
        client.host = name.encode()
        return client

    def get(self, path: str, *headers: tuple[str, str], **request: Any) -> Answer:
        encoded = tuple((name.encode(), value.encode()) for name, value in headers)
        return self.client().send(Request(path.encode(), headers=encoded, **request))

    def logged(self, begin: str, count: int = 1) -> Any:
        """The first line of the access log for a request target that begins so, once there are so many."""

        def found() -> list[Any]:
            lines = (self.folder / "log" / "access.log").read_text(errors="replace").splitlines()
            return [line for line in map(json.loads, lines) if line["uri"].startswith(begin)]

        wait_for(lambda: len(found()) >= count, 10, "the lines of the access log")
        return found()[0]


Sites = Callable[..., Site]


def body(answer: Answer) -> Any:
    return json.loads(answer.raw.split(b"\r\n\r\n", 1)[-1])


def header(answer: Answer, name: str) -> str | None:
    """The first header of this name in an answer."""
    for line in answer.raw.split(b"\r\n\r\n", 1)[0].decode("latin-1").split("\r\n")[1:]:
        if line.lower().startswith(f"{name.lower()}: "):
            return line.partition(": ")[2]
    return None


class Connection:
    """An open connection that reads as bytes arrive, and knows when each did."""

    def __init__(self, site: Site, path: str, *headers: str, before: bytes = b"") -> None:
        client = site.client()
        self.socket = client.connect(["http/1.1"])
        lines = [f"GET {path} HTTP/1.1", f"Host: {NAME}", *headers]
        self.socket.sendall("\r\n".join([*lines, "", ""]).encode() + before)

    def read_until(self, text: bytes, seconds: float = 10) -> bytes:
        data, end = b"", time.monotonic() + seconds
        while text not in data:
            self.socket.settimeout(max(0.01, end - time.monotonic()))
            chunk = self.socket.recv(65536)
            assert chunk, f"closed after {data!r}"
            data += chunk
        return data

    def echoes(self, text: bytes) -> bool:
        self.socket.sendall(text)
        return self.read_until(text) == text

    def close(self) -> None:
        self.socket.close()

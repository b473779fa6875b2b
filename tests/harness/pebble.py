"""A real ACME server, pebble, and a name server whose records tests set: plain processes, which ask for no network."""

from __future__ import annotations

import json
import os
import ssl
import subprocess
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from tests.harness import debian
from tests.harness.waiting import wait_for

DAY = 86400
# Of each certificate, as Let's Encrypt's.
VALID_SECONDS = 90 * DAY


class Authority:
    """The CA, which asks for challenges on this port, and the records by which it finds the names."""

    def __init__(self, folder: Path, http_port: int, ports: list[int]) -> None:
        self.folder = folder
        api, management, self.dns, self.records = ports
        self.directory = f"https://localhost:{api}/dir"
        self._management = f"https://localhost:{management}"
        self.api_certificate = folder / "api.crt"
        command: list[str | Path] = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
        command += ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
        command += ["-keyout", folder / "api.key", "-out", self.api_certificate]
        subprocess.run(command, check=True, capture_output=True)
        settings = {
            "listenAddress": f"127.0.0.1:{api}",
            "managementListenAddress": f"127.0.0.1:{management}",
            "certificate": str(self.api_certificate),
            "privateKey": str(folder / "api.key"),
            "httpPort": http_port,
            "tlsPort": 1,
            "certificateValidityPeriod": VALID_SECONDS,
        }
        (folder / "pebble.json").write_text(json.dumps({"pebble": settings}))
        records = ["-defaultIPv4", "127.0.0.1", "-defaultIPv6", "", "-dns01", f"127.0.0.1:{self.dns}"]
        records += ["-management", f"127.0.0.1:{self.records}", "-http01", "", "-https01", "", "-tlsalpn01", ""]
        self.processes = [
            self._start("pebble-challtestsrv", *records),
            self._start("pebble", "-config", str(folder / "pebble.json"), "-dnsserver", f"127.0.0.1:{self.dns}"),
        ]
        wait_for(self._answers, 60, "pebble")

    def _start(self, name: str, *arguments: str) -> subprocess.Popen[bytes]:
        # It validates at once, takes a name for proven that was, as Let's Encrypt for 30 days, and refuses some nonces.
        behaviour = {"PEBBLE_VA_NOSLEEP": "1", "PEBBLE_AUTHZREUSE": "100", "PEBBLE_WFE_NONCEREJECT": "10"}
        with (self.folder / f"{name}.log").open("wb") as log:
            return subprocess.Popen(
                [debian.program("pebble", f"usr/bin/{name}"), *arguments],
                env={**os.environ, **behaviour},
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def _get(self, url: str) -> str:
        context = ssl.create_default_context(cafile=self.api_certificate)
        with urlopen(url, timeout=5, context=context) as answer:
            return str(answer.read().decode())

    def _answers(self) -> bool:
        for process in self.processes:
            assert process.poll() is None, f"{process.args!r} has ended: see {self.folder}: {self.log()}"
        try:
            self.set("add-a", host="up.example.org.", addresses=["127.0.0.1"])
            return bool(self.root())
        except OSError:
            return False

    def root(self) -> str:
        """The certificate that clients trust."""
        return self._get(f"{self._management}/roots/0")

    def set(self, what: str, **values: Any) -> None:
        """Set a record, such as add-a; see pebble-challtestsrv."""
        urlopen(Request(f"http://127.0.0.1:{self.records}/{what}", json.dumps(values).encode()), timeout=5).close()

    def log(self) -> str:
        return "\n".join(log.read_text() for log in sorted(self.folder.glob("*.log")))

    def stop(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()

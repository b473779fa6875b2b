"""Certificates by ACME: a real CA (pebble), Debian's client, and two nginx in the places of load balancers."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import ssl
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from lab.ports import free_ports
from phoenix.balancer import acme
from tests.harness import debian
from tests.harness.pebble import DAY, Authority
from tests.harness.real_nginx import NAME, Instances, Site, Sites, header
from tests.harness.waiting import wait_for
from tests.harness.wire import Request, anybody
from tests.unit.shared import TOP

# The CA finds one name at the first balancer, the other at the second, as when an address has moved in between.
FIRST, SECOND, NOWHERE = "127.0.0.1", "127.0.0.2", "127.0.0.3"
CLIENT = "127.0.0.9"  # not 127.0.0.1, which sees the application during maintenance
NAMES = ["shop.example.org", "old.example.org"]
WILD = "*.example.net"
REFUSED = "new.example.org"
CHALLENGE = "/.well-known/acme-challenge/"
HOOK = """#!/usr/bin/env python3
import json, os, sys, urllib.request
verb, name, value = sys.argv[1:]
with open(os.environ["HOOK_LOG"], "a") as log:
    log.write(f"{verb} {name}\\n")
body = {"host": name} | ({"value": value} if verb == "present" else {})
path = {"present": "set-txt", "cleanup": "clear-txt"}[verb]
urllib.request.urlopen(f"http://127.0.0.1:{os.environ['HOOK_PORT']}/{path}", json.dumps(body).encode(), timeout=5)
"""


@pytest.fixture(scope="module")
def ports() -> list[int]:
    return free_ports(6)


@dataclass
class Control:
    """The client on control, as its unit runs it, with a folder and a configuration of its own."""

    folder: Path
    config: Path
    process: subprocess.Popen[str]
    errors: str = ""

    def ended(self) -> int:
        self.errors += self.process.communicate(timeout=120)[1]
        return self.process.returncode


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("account") / "acme"
    acme.account(found)
    return found


@pytest.fixture(scope="module")
def thumbprint(account: Path) -> str:
    return (account / "thumbprint").read_text().strip()


@pytest.fixture(scope="module")
def balancers(sites: Sites, ports: list[int], thumbprint: str) -> list[Site]:
    """Two, as they are before anything is issued, each rule in force that answers requests for others."""
    found = [
        sites(
            at,
            nginx_http_port=ports[0],
            nginx_https_port=ports[1],
            nginx_acme_names=[NAMES, [WILD], [REFUSED]],
            nginx_redirects=[{"names": NAMES[1:], "to": NAMES[0]}],
            nginx_maintenance=True,
            __nginx_thumbprint=thumbprint,
        )
        for at in (FIRST, SECOND)
    ]
    return found


@pytest.fixture(scope="module")
def authority(ports: list[int], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Authority]:
    started = Authority(tmp_path_factory.mktemp("pebble"), ports[0], ports[2:])
    for name, address in zip([*NAMES, REFUSED], (FIRST, SECOND, NOWHERE), strict=True):
        started.set("add-a", host=f"{name}.", addresses=[address])
    yield started
    started.stop()


@pytest.fixture(scope="module")
def environment(authority: Authority, account: Path) -> dict[str, str]:
    """That of the unit, and what it would get from the system."""
    return {
        "PATH": f"{Path(debian.program('lego', 'usr/bin/lego')).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(TOP / "src"),
        "LEGO_CA_CERTIFICATES": str(authority.api_certificate),
        "HOOK_LOG": str(account.parent / "hook.log"),
        "HOOK_PORT": str(authority.records),
    }


Controls = Mapping[str, Control]


@pytest.fixture(scope="module")
def controls(balancers: list[Site], authority: Authority, account: Path, environment: dict[str, str]) -> Controls:
    """Three at once, as they mostly wait: the first certificates are issued, while clients see the page of maintenance.

    A third one is refused, in the place of which there is another.
    """
    hook = account.parent / "hook"
    hook.write_text(HOOK)
    hook.chmod(0o755)
    found = {}
    for name, certificate in (
        ("http", {"names": NAMES}),
        ("dns", {"names": [WILD], "challenge": "dns-01"}),
        ("refused", {"names": [REFUSED]}),
    ):
        folder, config = account.parent / name, account.parent / f"{name}.json"
        shutil.copytree(account, folder)
        if name == "refused":
            balancers[0].certificate(REFUSED, "former.example.org", one_file=True)
            shutil.copy(balancers[0].folder / "tls" / f"{REFUSED}.pem", folder)
        values = {"directory": authority.directory, "email": "operations@example.org", "hook": str(hook)}
        config.write_text(json.dumps({**values, "certificates": [certificate]}))
        command: list[str | Path] = [sys.executable, "-m", "phoenix", "certificates", "issue"]
        command += ["--config", config, "--folder", folder]
        process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
        found[name] = Control(folder, config, process)
    for one in found.values():
        one.ended()
    for site in balancers:
        site.write(nginx_maintenance=False)
    serve(balancers, found)
    return found


def serve(balancers: list[Site], controls: Controls) -> None:
    """What the play does: each file replaced at once, then a reload whose end is waited for."""
    for site in balancers:
        for source in (path for one in controls.values() for path in one.folder.glob("*.pem")):
            new = site.folder / "tls" / f"{source.name}.new"
            shutil.copy(source, new)
            new.replace(site.folder / "tls" / source.name)
        site.reload()


@pytest.fixture(scope="module")
def trusting(authority: Authority) -> ssl.SSLContext:
    """Clients that trust this CA, and nobody else."""
    return ssl.create_default_context(cadata=authority.root())


def get(site: Site, name: str, context: ssl.SSLContext, path: str = "/") -> tuple[int, bytes]:
    """The status of an answer over TLS, and the certificate that was served for this name."""
    with (
        socket.create_connection((site.at, site.https), timeout=10, source_address=(CLIENT, 0)) as plain,
        context.wrap_socket(plain, server_hostname=name) as connection,
    ):
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n".encode())
        answer = b""
        while chunk := connection.recv(65536):
            answer += chunk
        return int(answer.split()[1]), connection.getpeercert(binary_form=True) or b""


def test_any_balancer_answers_whatever_else_it_does_with_requests(
    balancers: list[Site], instances: Instances, thumbprint: str
) -> None:
    before = instances.seen()
    for site in balancers:
        assert get(site, NAME, anybody())[0] == 503, "the maintenance that they begin with"
        # A redirect to HTTPS, a redirected name, and an unknown site.
        for name, otherwise in ((NAME, 308), (NAMES[0], 308), (NAMES[1], 308), ("unknown.example.org", 421)):
            client = site.client("http", name)
            answer = client.send(Request(f"{CHALLENGE}Tok_en-1".encode()))
            assert (answer.status, answer.raw.split(b"\r\n\r\n")[1]) == (200, f"Tok_en-1.{thumbprint}".encode()), name
            assert client.send(Request(b"/")).status == otherwise
    assert instances.seen() == before


@pytest.mark.parametrize(
    ("path", "beyond"),
    [
        ("../../crash", 404),
        ("%2e%2e/%2e%2e/crash", 404),
        ("x/../../../crash", 404),
        ("..%2f..%2fcrash", 404),
        ("", 200),
        ("token/crash", 200),
        ("to%0d%0aken", 200),
        ("token.", 200),
    ],
)
def test_nothing_else_is_answered_there(path: str, beyond: int, balancers: list[Site], instances: Instances) -> None:
    """It meets what any request meets: a redirect or a refusal, and after the redirect the blocked routes."""
    before = instances.seen()
    for name, status in ((NAME, 308), ("unknown.example.org", 421)):
        answer = balancers[0].client("http", name).send(Request(f"{CHALLENGE}{path}".encode()))
        assert answer.status == status
        onward = f"https://{NAME}:{balancers[0].https}{CHALLENGE}{path}"
        assert header(answer, "Location") == (onward if status == 308 else None)
    assert instances.seen() == before
    assert balancers[0].get(f"{CHALLENGE}{path}").status == beyond


def test_the_first_is_issued_through_both_balancers(
    controls: Controls, balancers: list[Site], authority: Authority, trusting: ssl.SSLContext
) -> None:
    one = controls["http"]
    assert one.process.returncode == 0, one.errors
    for site, name in zip(balancers, NAMES, strict=True):
        assert get(site, NAMES[0], trusting)[0] == 200
        assert get(site, NAMES[1], trusting)[0] == 308
        # The CA, which came to this one for this name.
        lines = [json.loads(line) for line in (site.folder / "log" / "access.log").read_text().splitlines()]
        asked = {line["host"] for line in lines if re.fullmatch(rf"{CHALLENGE}[A-Za-z0-9_-]{{43}}", line["uri"])}
        assert asked == {name}, authority.log()
    assert {path.name for path in one.folder.iterdir()} == {"account.key", "thumbprint", f"{NAMES[0]}.pem"}
    assert {stat.S_IMODE((one.folder / name).stat().st_mode) for name in ("account.key", f"{NAMES[0]}.pem")} == {0o600}
    assert acme.read(one.folder / f"{NAMES[0]}.pem").names == set(NAMES)


def test_one_by_dns_is_issued_with_the_operators_hook(
    controls: Controls, environment: dict[str, str], balancers: list[Site], trusting: ssl.SSLContext
) -> None:
    assert controls["dns"].process.returncode == 0, controls["dns"].errors
    calls = Path(environment["HOOK_LOG"]).read_text().splitlines()
    assert calls == ["present _acme-challenge.example.net.", "cleanup _acme-challenge.example.net."]
    for site in balancers:
        assert get(site, "any.example.net", trusting)[0] == 200


def test_a_refused_one_leaves_the_old_one_serving_and_fails(controls: Controls, balancers: list[Site]) -> None:
    one = controls["refused"]
    assert one.process.returncode == 1
    assert one.errors.startswith(f"{REFUSED}.pem: lego ended with status 1\n")
    assert f"[{REFUSED}] acme: error: 400" in one.errors
    assert acme.read(one.folder / f"{REFUSED}.pem").names == {"former.example.org"}
    (expected,) = re.findall("-----BEGIN CERT(?s:.)+", (one.folder / f"{REFUSED}.pem").read_text())
    for site in balancers:
        assert get(site, REFUSED, anybody()) == (200, ssl.PEM_cert_to_DER_cert(expected))


def test_a_renewal_under_load_loses_no_request(
    controls: Controls,
    balancers: list[Site],
    environment: dict[str, str],
    trusting: ssl.SSLContext,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    one = controls["http"]
    config = acme.parse(one.config.read_text())
    seen: dict[str, list[bytes]] = {site.at: [] for site in balancers}
    failed: list[str] = []
    over = threading.Event()

    def ask(site: Site, path: str) -> None:
        while not over.wait(0.01):
            try:
                status, certificate = get(site, NAMES[0], trusting, path)
            except OSError as error:
                failed.append(repr(error))
                continue
            seen[site.at].append(certificate)
            if status != 200:
                failed.append(str(status))

    def renewed(site: Site) -> bool:
        return get(site, NAMES[0], trusting)[1] != seen[site.at][0]

    with ThreadPoolExecutor(len(balancers) * 2) as pool:
        # Of those to /slow one is always under way, before the reload and after it.
        load = [pool.submit(ask, site, path) for site in balancers for path in ("/", "/slow")]
        try:
            assert acme.due(config, one.folder, time.time() + 59 * DAY) == {}
            assert acme.issue_due(config, one.folder, time.time() + 61 * DAY) == 0
            serve(balancers, controls)
            # Until the last worker from before accepts no more, either certificate may come.
            for site in balancers:
                wait_for(partial(renewed, site), 60, f"the new certificate at {site.at}")
        finally:
            over.set()
    for done in load:
        done.result()
    assert failed == []
    for site in balancers:
        assert len(seen[site.at]) > 20 and len(set(seen[site.at])) <= 2
        assert renewed(site)

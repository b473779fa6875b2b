"""What a request costs nginx with Phoenix's configuration, before a static upstream, without a fleet.

usage: python -m bench.serving [REVISION]

Compares nginx's defaults as a proxy with the role's defaults and with all of its options in use; with a revision of
this repository, also with the role's templates of that revision. Each runs with one worker, and in turn, several times.
CPU time of the worker for a request is what is compared, as load and upstream share the machine with it.
"""

from __future__ import annotations

import argparse
import os
import re
import socket
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from statistics import median
from typing import Any

from ansible.plugins.loader import init_plugin_loader

from bench.__main__ import table
from bench.fleet import Row
from tests.harness import debian
from tests.harness.real_nginx import NAME, TEMPLATES, Instances, Site, listens
from tests.harness.waiting import wait_for
from tests.unit.shared import TOP

ROUNDS, SECONDS, CONNECTIONS = 5, 4, 16
# As long as the page of the application in app/.
BODY = "<p>" + "a line of a page, as long as such lines are; " * 40 + "</p>"
BEGIN = """
worker_processes 1; pid {folder}/pid; error_log /dev/null;
events {{ worker_connections 1024; }}
http {{
    client_body_temp_path {folder}/temporary/body; proxy_temp_path {folder}/temporary/proxy;
    fastcgi_temp_path {folder}/temporary/fastcgi; uwsgi_temp_path {folder}/temporary/uwsgi;
    scgi_temp_path {folder}/temporary/scgi;
"""
UPSTREAM = """
    access_log off; keepalive_requests 1000000; default_type text/html;
    server {{ {listen} return 200 "{body}"; }}
}}
"""
PLAIN = """
    access_log {folder}/log/access.log;
    upstream app {{ {servers} keepalive 32; }}
    server {{
        listen 127.0.0.1:{port} ssl http2;
        ssl_certificate {folder}/tls/phoenix.crt;
        ssl_certificate_key {folder}/tls/phoenix.key;
        location / {{ proxy_pass http://app; proxy_http_version 1.1; proxy_set_header Connection ""; }}
    }}
}}
"""
EVERYTHING: Mapping[str, Any] = {
    "nginx_affinity": "cookie",
    "nginx_paths": [{"path": "/upload/", "body_max": "50m", "timeout": "600s", "buffering": False}],
    "nginx_asset_paths": ["/assets/"],
    "nginx_trusted_proxies": ["192.0.2.0/24", "2001:db8::/32"],
    "nginx_redirects": [{"names": ["example.org"], "to": NAME}],
    "nginx_certificates": [{"names": ["other.example.org"], "certificate": "x", "key": "x"}],
    "__nginx_pages": ["502", "503", "504"],
}


class Plain(Site):
    """nginx's own defaults."""

    def write(self, **settings: Any) -> None:
        servers = " ".join(f"server 127.0.0.1:{port};" for port in self.settings["__nginx_ordinary"][0]["ports"])
        text = (BEGIN + PLAIN).format(folder=self.folder, servers=servers, port=self.https)
        (self.folder / "nginx.conf").write_text(text)


class Static(Instances):
    """An nginx that answers for all of them with the same page."""

    @contextmanager
    def serving(self, program: str, folder: Path) -> Iterator[None]:
        ports = (*self.ordinary, self.spare)
        listen = " ".join(f"listen 127.0.0.1:{port};" for port in ports)
        (folder / "temporary").mkdir(parents=True, exist_ok=True)
        (folder / "conf").write_text((BEGIN + UPSTREAM).format(folder=folder, listen=listen, body=BODY))
        subprocess.run([program, "-q", "-c", folder / "conf"], check=True, stderr=subprocess.DEVNULL)
        wait_for(lambda: listens(self.spare), 10, "the upstream")
        try:
            yield
        finally:
            subprocess.run([program, "-c", folder / "conf", "-s", "stop"], check=True, stderr=subprocess.DEVNULL)


def templates_of(revision: str, folder: Path) -> Path:
    """The role as it was, unpacked into the folder."""
    role = subprocess.run(["git", "archive", revision, "roles/nginx"], cwd=TOP, capture_output=True, check=True)
    with tarfile.open(fileobj=BytesIO(role.stdout)) as archive:
        archive.extractall(folder, filter="data")
    return folder / "roles" / "nginx" / "templates"


def worker_of(site: Site) -> int:
    master = (site.folder / "pid").read_text().strip()
    children = Path(f"/proc/{master}/task/{master}/children")
    wait_for(lambda: children.read_text() != "", 10, "the worker")
    (worker,) = children.read_text().split()
    return int(worker)


def cpu_seconds(pid: int) -> float:
    user, system = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def cost(wrk: str, site: Site, *headers: str) -> tuple[float, float]:
    """Microseconds of CPU for a request, and requests a second."""
    worker = worker_of(site)
    words = [word for header in (f"Host: {NAME}", *headers) for word in ("-H", header)]
    before = cpu_seconds(worker)
    done = subprocess.run(
        [wrk, "-t1", f"-c{CONNECTIONS}", f"-d{SECONDS}s", *words, f"https://127.0.0.1:{site.https}/"],
        env=debian.environment(wrk),
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "Non-2xx" not in done and "Socket errors" not in done, done
    count = int(re.search(r"(\d+) requests in", done)[1])  # type: ignore[index]
    rate = float(re.search(r"Requests/sec:\s*([\d.]+)", done)[1])  # type: ignore[index]
    return (cpu_seconds(worker) - before) / count * 1e6, rate


def one_worker(site: Site) -> None:
    file = site.folder / "nginx.conf"
    file.write_text(file.read_text().replace("worker_processes auto", "worker_processes 1"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("revision", nargs="?")
    revision = parser.parse_args().revision
    init_plugin_loader()
    program = debian.program("nginx", "usr/sbin/nginx")
    wrk = debian.program("wrk", "usr/bin/wrk", "libluajit-5.1-2", "libluajit-5.1-common")
    with tempfile.TemporaryDirectory() as name, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as metering:
        metering.bind(("127.0.0.1", 0))
        folder, static = Path(name), Static()
        # Phoenix counts requests in every configuration, and limits no single client here.
        known = {
            "nginx_metering_address": f"127.0.0.1:{metering.getsockname()[1]}",
            "nginx_client_rate": 10**6,
            "nginx_client_burst": 10**6,
        }
        made: dict[str, tuple[type[Site], dict[str, Any], tuple[str, ...]]] = {"plain nginx": (Plain, {}, ())}
        if revision:
            old = {"templates": templates_of(revision, folder / "old")}
            made[f"the role at {revision}"] = (Site, {**known, **old}, ())
        made["the role's defaults"] = (Site, dict(known), ())
        made["all options"] = (Site, {**known, **EVERYTHING}, ())
        made["all options, compressed"] = (Site, {**known, **EVERYTHING}, ("Accept-Encoding: gzip",))
        seen: dict[str, list[tuple[float, float]]] = {what: [] for what in made}
        for number in range(ROUNDS):
            for turn, (what, (kind, settings, headers)) in enumerate(made.items()):
                place = folder / f"{number}-{turn}"
                place.mkdir()
                site = kind(program, place, static, **{"templates": TEMPLATES, **settings})
                with static.serving(program, folder / "static"):
                    one_worker(site)
                    site.start()
                    try:
                        seen[what].append(cost(wrk, site, *headers))
                    finally:
                        site.stop()
    # The last that is not Phoenix of today.
    reference = f"the role at {revision}" if revision else "plain nginx"
    rows = []
    for what, pairs in seen.items():
        spent, rate = (median(values) for values in zip(*pairs, strict=True))
        beside = None if what == reference else median(one for one, _ in seen[reference])
        rows.append(Row(f"CPU for a request: {what}", round(spent, 1), "us", beside, f"{rate:.0f} requests/s"))
    print(table(rows))


if __name__ == "__main__":
    main()

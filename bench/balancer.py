"""Throughput of the load balancer against a plain nginx that proxies the same instances, and site.yml's second run."""

from __future__ import annotations

import re
import time
from typing import Any

from bench.fleet import Fleet, Row
from tests.harness import plays

SECONDS = 10
ROUNDS = 3
# A minimal configuration: nginx's defaults, the same certificate and instances, keep-alive to them.
PLAIN = """
pid /run/plain.pid;
error_log /dev/null;
worker_processes auto;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    upstream app {{ {servers} keepalive 32; }}
    server {{
        listen 127.0.0.1:8443 ssl http2;
        ssl_certificate {certificate};
        ssl_certificate_key {key};
        location / {{ proxy_pass http://app; proxy_http_version 1.1; proxy_set_header Connection ""; }}
    }}
}}
"""


def measure(fleet: Fleet) -> list[Row]:
    return throughput(fleet) + second_run(fleet)


def throughput(fleet: Fleet) -> list[Row]:
    """Run wrk on the load balancer's host against each in turn, so that only nginx differs.

    With the fleet's own settings. To compare with all of nginx's options in use (decision 49), run it again with
    nginx_affinity, nginx_paths, nginx_trusted_proxies, nginx_redirects, nginx_certificates and nginx_error_page_folder
    set. That comparison has not been made on a fleet yet; bench/serving.py makes it before a static upstream.
    """
    host = next(iter(fleet.hosts("lb").values()))
    ours = host.check_output("nginx -T 2>/dev/null")
    pool = re.search(r"upstream phoenix \{(.*?)\n\}", ours, re.DOTALL)
    assert pool, "the pool of ordinary instances is not in nginx's configuration"
    servers = " ".join(f"server {address};" for address in re.findall(r"server (\S+:\d+)", pool[1]))
    files = dict(re.findall(r"ssl_certificate(_key)? (\S+);", ours))
    plain = PLAIN.format(servers=servers, certificate=files[""], key=files["_key"])
    host.check_output(f"printf '%s' '{plain}' >/run/plain.conf && nginx -c /run/plain.conf")
    try:
        name = re.search(r"server_name (\S+)", ours.split("limit_req zone", 1)[0].rsplit("server {", 1)[1])
        assert name, "the served name is not in nginx's configuration"
        rates: dict[str, list[float]] = {"127.0.0.1:443": [], "127.0.0.1:8443": []}
        for _ in range(ROUNDS):
            for address, seen in rates.items():
                seen.append(requests_per_second(host, f"https://{address}/", name[1]))
    finally:
        host.run("nginx -c /run/plain.conf -s quit; rm /run/plain.conf")
    phoenix, reference = (sorted(seen)[ROUNDS // 2] for seen in rates.values())
    return [Row("load balancer's throughput (TLS)", phoenix, "requests/s", reference, "reference: plain nginx")]


def requests_per_second(host: Any, url: str, name: str = "") -> float:
    """Return what four connections get from a URL, asked for under this name, with as many requests as they can."""
    assert host.run("command -v wrk || apt-get install -y -qq --no-install-recommends wrk").rc == 0, "wrk is missing"
    header = f"-H 'Host: {name}' " if name else ""
    out = host.check_output(f"wrk -t1 -c4 -d{SECONDS}s {header}{url}")
    assert "Non-2xx" not in out, out
    return float(re.search(r"Requests/sec:\s*([\d.]+)", out)[1])  # type: ignore[index]


def second_run(fleet: Fleet) -> list[Row]:
    start = time.monotonic()
    done = plays.run(fleet.inventory, "site")
    took = time.monotonic() - start
    done.check_returncode()
    changed = sum(int(number) for number in re.findall(r"changed=(\d+)", done.stdout))
    return [
        Row("site.yml on a converged fleet", round(took, 1), "s", 60, "reference: the design's"),
        Row("changed by it", changed, "tasks"),
    ]

"""Whether the proxies in front of this load balancer name the client by the PROXY protocol, which nginx then expects.

  phoenixctl proxies watch --proxy ADDRESS|NETWORK... [--own ADDRESS]... [--seconds N]

prints as JSON, for that time: connections of these proxies that nginx closed for lack of it, the address of the last of
them, and the requests that came meanwhile, but for those of this host and of the fleet's own checks (--own).
"""

from __future__ import annotations

import argparse
import json
import re
import time
from collections.abc import Collection, Iterable, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Any

from phoenix.balancer import access_log, upstreams

ERRORS = Path("/var/log/nginx/error.log")
# What nginx says of such a connection. Before it stands what the client sent, as it came.
CLOSED = re.compile(rb"while reading PROXY protocol, client: ([0-9a-fA-F.:]+), server: [^ ]+$")
THIS_HOST = "127.0.0.1"


def closed(lines: Iterable[bytes], proxies: Sequence[IPv4Network | IPv6Network]) -> list[str]:
    """The addresses of these proxies whose connections were closed, one for each connection."""
    found = [match[1].decode() for line in lines if (match := CLOSED.search(line.strip()))]
    return [address for address in found if any(ip_address(address) in network for network in proxies)]


def answered(lines: Iterable[bytes], own: Collection[str]) -> int:
    """How many requests are others' than these clients'."""
    clients = [access_log.parse(line).get("client") for line in lines]
    return sum(bool(client) and client not in own for client in clients)


def watch(options: argparse.Namespace) -> dict[str, Any]:
    marks = {log: upstreams.place(log) for log in (ERRORS, upstreams.LOG) if log.exists()}
    time.sleep(options.seconds)
    lines: dict[Path, list[bytes]] = {}
    for log, mark in marks.items():
        with access_log.open_at(mark, log) as handle:
            lines[log] = handle.readlines()
    refused = closed(lines.get(ERRORS, []), options.proxy)
    own = {THIS_HOST, *options.own}
    return {
        "closed": len(refused),
        "last": refused[-1] if refused else "",
        "answered": answered(lines.get(upstreams.LOG, []), own),
    }


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("verb", choices=["watch"])
    parser.add_argument("--proxy", action="append", required=True, type=lambda text: ip_network(text, strict=False))
    parser.add_argument("--own", action="append", default=[], metavar="ADDRESS")
    parser.add_argument("--seconds", type=float, default=20.0)
    print(json.dumps(watch(parser.parse_args(arguments))))
    return 0

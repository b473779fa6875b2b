"""The health check of an instance: good answers in a row, then good answers to recent requests of clients."""

from __future__ import annotations

import http.client
import ipaddress
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phoenix.instances import units

CRASHES = 5  # within one wait: more means a crash at boot, not a short outage of the database
# A path that fails so often in a row is broken: where one answer in a hundred is an error, another one follows.
ATTEMPTS = 3
# As behind a load balancer: an application may rely on them, or redirect what seems to come without TLS.
HEADERS = {
    "Connection": "close",
    "Accept": "*/*",
    "User-Agent": "phoenix-health",
    "X-Forwarded-For": "127.0.0.1",
    "X-Real-IP": "127.0.0.1",
    "X-Forwarded-Proto": "https",
}
SOCKETS = Path("/proc/net")
LISTENING = "0A"


# Of the health path, wherever it is asked: by the gates, the probe, the monitoring and verify.yml. An application may
# want a login there, or have no page.
HEALTHY = range(200, 500)


class Unhealthy(Exception):
    """An instance did not become healthy; the text states what was observed."""


@dataclass(frozen=True)
class HealthCheck:
    """GET path has to be answered `times` in a row with a status below 500, each within `limit` s, in `timeout` s."""

    path: str = "/"
    times: int = 1
    limit: float = 5.0
    timeout: float = 60.0


def ask(
    port: int,
    path: str,
    timeout: float,
    host: str = "",
    *,
    stream: bool = False,
    address: str = "127.0.0.1",
    headers: Mapping[str, str] | None = None,
) -> str:
    """The error in the answer to a GET; "" if its status is below 500 and it was complete within timeout (s).

    stream: it is enough that it began within that time, as an answer may be a stream without an end. headers: in place
    of, or besides, those of HEADERS.
    """
    connection = http.client.HTTPConnection(address, port, timeout=timeout)
    own = {**HEADERS, **({"Host": host} if host else {})}
    start = time.monotonic()
    try:
        connection.request("GET", path, headers={**own, **(headers or {})})
        link = connection.sock
        answer = connection.getresponse()
        # As a whole: the connection's own limit is for each read.
        while answer.status in HEALTHY and not stream:
            link.settimeout(max(0.001, start + timeout - time.monotonic()))
            if not answer.read1(65536):
                break
    except TimeoutError:
        return f"no complete answer within {timeout:g} s"
    except (OSError, http.client.HTTPException) as error:
        return f"no answer ({error or type(error).__name__})"
    finally:
        connection.close()
    took = time.monotonic() - start
    if answer.status not in HEALTHY:
        return f"status {answer.status}"
    return f"an answer only after {took:.1f} s" if took > timeout else ""


def ask_often(*asked: Any, **more: Any) -> str:
    """As ask(), up to ATTEMPTS times: "" after the first good answer, or else the last error."""
    wrong = ""
    for _ in range(ATTEMPTS):
        if not (wrong := ask(*asked, **more)):
            break
    return wrong


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """An address as the kernel lists it: words of 32 bits, each in the machine's order of bytes."""
    words = (text[start : start + 8] for start in range(0, len(text), 8))
    packed = b"".join(int(word, 16).to_bytes(4, sys.byteorder) for word in words)
    found = ipaddress.ip_address(packed)
    return getattr(found, "ipv4_mapped", None) or found


def listens_for_itself_only(port: int) -> bool:
    """Whether the port is open on loopback addresses alone: load balancers can't reach it then."""
    addresses = []
    for name in ("tcp", "tcp6"):
        path = SOCKETS / name
        for line in path.read_text(encoding="ascii").splitlines()[1:] if path.exists() else []:
            local, state = line.split()[1], line.split()[3]
            if state == LISTENING and int(local.rpartition(":")[2], 16) == port:
                addresses.append(_address(local.rpartition(":")[0]))
    return bool(addresses) and all(address.is_loopback for address in addresses)


def wait(port: int, check: HealthCheck, crashes: int = 0) -> None:
    """Wait until the instance is healthy.

    Raises Unhealthy after check.timeout seconds, when the process ended `crashes` times (0: however often), or where it
    listens for its own host only.
    """
    end = time.monotonic() + check.timeout
    unit = units.UNIT.format(port)
    good, wrong = 0, "no answer"
    while True:
        seen = ask(port, check.path, check.limit)
        good, wrong = (0, seen) if seen else (good + 1, wrong)
        if good >= check.times:
            if listens_for_itself_only(port):
                raise Unhealthy(
                    f"{unit} listens on a loopback address only, where no load balancer reaches it: have the "
                    "application listen on all addresses (0.0.0.0, or none given)"
                )
            return
        if crashes and seen and (count := units.restarts(port)) >= crashes:
            raise Unhealthy(f"{unit} ended {count} times instead of answering GET {check.path}")
        if time.monotonic() > end:
            raise Unhealthy(
                f"{unit} did not answer GET {check.path} {check.times} times in a row with a status below 500, "
                f"each within {check.limit:g} s, in {check.timeout:.0f} s; last: {wrong}"
            )
        time.sleep(0.1)


def rehearse(port: int, paths: Iterable[Mapping[str, str]], limit: float) -> None:
    """Rehearse recent requests of clients, {path, host} each. Raises Unhealthy."""
    for asked in paths:
        if wrong := ask_often(port, asked["path"], limit, asked.get("host", ""), stream=True):
            # Without its query, which may hold private data.
            path = asked["path"].partition("?")[0]
            raise Unhealthy(f"{units.UNIT.format(port)} answers GET {path} with {wrong}")

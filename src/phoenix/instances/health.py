"""The health check of an instance: good answers in a row, then good answers to recent requests of clients."""

from __future__ import annotations

import http.client
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from phoenix.instances import units

CRASHES = 5  # within one wait: more means a crash at boot, not a short outage of the database


class Unhealthy(Exception):
    """An instance did not become healthy; the text states what was observed."""


@dataclass(frozen=True)
class HealthCheck:
    """GET path has to be answered `times` in a row with a status below 500, each within `limit` s, in `timeout` s."""

    path: str = "/"
    times: int = 1
    limit: float = 5.0
    timeout: float = 60.0


def ask(port: int, path: str, timeout: float, host: str = "", *, stream: bool = False) -> str:
    """The error in the answer to a GET; "" if its status is below 500 and it was complete within timeout (s).

    stream: it is enough that it began within that time, as an answer may be a stream without an end.
    """
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    headers = {"Connection": "close", "User-Agent": "phoenix-health", **({"Host": host} if host else {})}
    start = time.monotonic()
    try:
        connection.request("GET", path, headers=headers)
        link = connection.sock
        answer = connection.getresponse()
        # As a whole: the connection's own limit is for each read.
        while answer.status < 500 and not stream:
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
    if answer.status >= 500:
        return f"status {answer.status}"
    return f"an answer only after {took:.1f} s" if took > timeout else ""


def wait(port: int, check: HealthCheck, crashes: int = 0) -> None:
    """Wait until the instance is healthy.

    Raises Unhealthy after check.timeout seconds, or when the process ended `crashes` times (0: however often).
    """
    end = time.monotonic() + check.timeout
    unit = units.UNIT.format(port)
    good, wrong = 0, "no answer"
    while True:
        seen = ask(port, check.path, check.limit)
        good, wrong = (0, seen) if seen else (good + 1, wrong)
        if good >= check.times:
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
        if wrong := ask(port, asked["path"], limit, asked.get("host", ""), stream=True):
            # Without its query, which may hold private data.
            path = asked["path"].partition("?")[0]
            raise Unhealthy(f"{units.UNIT.format(port)} answers GET {path} with {wrong}")

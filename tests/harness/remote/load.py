#!/usr/bin/python3
"""Send requests at given times and print the result as JSON. Runs on a host of the lab, stdlib only.

usage: load.py URL RATE SECONDS [--seed SEED] [--method METHOD] [--retry] [--timeout SECONDS] [--series]   (SIGTERM ends
it early, with its result)
RATE is a number of requests a second, or those of each second: 5,7,6. With a seed they come at random, RATE a second on
average, or within each second. Other methods than GET are sent each on a connection of its own, as a client may not try
those again; any answer below 500 is one of the application. With --retry a request that failed is sent once more, after
a pause and over a new connection, as a careful client does: `retried` counts those, `first_failures` says why, `failed`
counts those that failed twice. With --series the result holds each request: when it was due in seconds after the start,
its latency in seconds, and 0 if it succeeded at first, 1 at the second attempt, 2 if it failed.

The schedule is open: a request is due at its time regardless of earlier ones, and its latency counts from then, so
that a stalled server can't slow the measurement down (coordinated omission). A kept-alive connection that the server
closed before any byte of an answer is tried once more, as RFC 9110, section 9.2.2, allows for idempotent methods.
"""

from __future__ import annotations

import argparse
import bisect
import http.client
import itertools
import json
import random
import signal
import ssl
import threading
import time
from urllib.parse import urlsplit

WORKERS = 64
TIMEOUT_S = 35.0  # above the proxy's own
PAUSE_S = 0.5  # of a client before it asks again


def due_times(rate: float | list[int], seconds: float, seed: int | None = None) -> list[float]:
    """Return when each request is due, in seconds from the start: evenly, or with a seed at random (Poisson)."""
    source = random.Random(seed)
    if isinstance(rate, list):
        evenly = [[number / count for number in range(count)] for count in rate]
        shares = evenly if seed is None else [sorted(source.random() for _ in one) for one in evenly]
        return [second + share for second, one in enumerate(shares) for share in one if second + share < seconds]
    gaps = (source.expovariate(rate) if seed is not None else 1 / rate for _ in range(int(rate * seconds) - 1))
    return list(itertools.accumulate(gaps, initial=0.0))


def rates(text: str) -> float | list[int]:
    """Read RATE."""
    return [int(count) for count in text.split(",")] if "," in text else float(text)


class Load:
    """A bounded number of requests, shared by the workers: each is due at its moment after the start."""

    def __init__(
        self,
        url: str,
        rate: float | list[int],
        seconds: float,
        seed: int | None = None,
        method: str = "GET",
        retry: bool = False,
        timeout: float = TIMEOUT_S,
        series: bool = False,
    ) -> None:
        parts = urlsplit(url)
        self.tls, self.host = parts.scheme == "https", parts.netloc
        self.path = parts.path or "/"
        self.method, self.timeout = method, timeout
        self.retry, self.retried = retry, 0
        self.moments = due_times(rate, seconds, seed)
        self.total = len(self.moments)
        self.lock = threading.Lock()
        self.next = 0
        self.latencies: list[float] = []
        self.series: list[tuple[float, float, int]] | None = [] if series else None
        self.failures: list[str] = []
        self.first_failures: list[str] = []
        # The lab's certificate is self-signed; only the answers are measured.
        self.context = ssl._create_unverified_context() if self.tls else None
        self.start, self.ended = time.monotonic(), seconds

    def connect(self) -> http.client.HTTPConnection:
        if self.tls:
            return http.client.HTTPSConnection(self.host, timeout=self.timeout, context=self.context)
        return http.client.HTTPConnection(self.host, timeout=self.timeout)

    def ask(self, connection: http.client.HTTPConnection, reused: bool) -> tuple[http.client.HTTPConnection, int]:
        if self.method != "GET":
            connection.close()
            connection = self.connect()
            connection.request(self.method, self.path, headers={"Connection": "close"})
            answer = connection.getresponse()
            answer.read()
            return connection, 200 if answer.status < 500 else answer.status
        try:
            connection.request("GET", self.path)
            answer = connection.getresponse()
        except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError, ssl.SSLEOFError):
            connection.close()
            if not reused:
                raise
            connection = self.connect()
            connection.request("GET", self.path)
            answer = connection.getresponse()
        answer.read()
        return connection, answer.status

    def once(
        self, connection: http.client.HTTPConnection, reused: bool
    ) -> tuple[http.client.HTTPConnection, bool, str]:
        """Send one request; return the connection for the next one, whether it was used, and why it failed, or ""."""
        try:
            connection, status = self.ask(connection, reused)
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            return self.connect(), False, f"{type(error).__name__}: {error}"
        return connection, True, "" if status == 200 else f"status {status}"

    def work(self) -> None:
        connection, reused = self.connect(), False
        while True:
            with self.lock:
                number, self.next = self.next, self.next + 1
            if number >= self.total:
                break
            due = self.start + self.moments[number]
            time.sleep(max(0.0, due - time.monotonic()))
            connection, reused, failure = self.once(connection, reused)
            first = f"{time.monotonic() - self.start:.2f} s: {failure}"
            if again := bool(failure and self.retry):
                connection.close()
                time.sleep(PAUSE_S)
                connection, reused, failure = self.once(self.connect(), False)
            now = time.monotonic()
            with self.lock:
                self.latencies.append(now - due)
                if again:
                    self.retried += 1
                    self.first_failures.append(first)
                if failure:
                    self.failures.append(f"{now - self.start:.2f} s: {failure}")
                if self.series is not None:
                    outcome = 2 if failure else int(again)
                    self.series.append((round(due - self.start, 3), round(now - due, 4), outcome))

    def end(self, *_: object) -> None:
        self.total, self.ended = self.next, time.monotonic() - self.start

    def run(self) -> dict[str, object]:
        signal.signal(signal.SIGTERM, self.end)
        workers = [threading.Thread(target=self.work) for _ in range(WORKERS)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        ordered = sorted(self.latencies)
        result: dict[str, object] = {
            "sent": len(ordered),
            "due": bisect.bisect_left(self.moments, self.ended),
            "began": round(self.start, 3),
            "failed": len(self.failures),
            "retried": self.retried,
            "failures": self.failures[:10],
            "first_failures": self.first_failures[:10],
            "p50_s": round(ordered[len(ordered) // 2], 4),
            "p99_s": round(ordered[int(len(ordered) * 0.99)], 4),
            "max_s": round(ordered[-1], 4),
        }
        return result if self.series is None else {**result, "series": sorted(self.series)}


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("rate", type=rates)
    parser.add_argument("seconds", type=float)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--method", default="GET")
    parser.add_argument("--retry", action="store_true")
    parser.add_argument("--timeout", type=float, default=TIMEOUT_S)
    parser.add_argument("--series", action="store_true")
    print(json.dumps(Load(**vars(parser.parse_args())).run()))

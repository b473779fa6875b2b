"""The load balancer: its answers, its connections, the certificate that it serves."""

from __future__ import annotations

import re
import socket
import ssl
import subprocess
import time
import urllib.request
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from phoenix.monitoring.charts import TIMEOUT_S, Chart, Collector


def count_statuses(lines: bytes) -> dict[str, int]:
    """Answers of nginx's JSON access log by class of status."""
    counts = dict.fromkeys(("1xx", "2xx", "3xx", "4xx", "5xx"), 0)
    for digit in re.findall(rb'"status":([1-5])\d\d,', lines):
        counts[f"{digit.decode()}xx"] += 1
    return counts


def error_share(window: Iterable[Mapping[str, int]], minimum: int) -> float:
    """Percentage of answers 5xx in the window; 0 below `minimum` answers, where one failure would be a catastrophe."""
    total = errors = 0
    for counts in window:
        total += sum(counts.values())
        errors += counts["5xx"]
    return 100.0 * errors / total if total >= max(1, minimum) else 0.0


class AccessLog(Collector):
    """Answers by class of status, and the share of failed ones in the last minute, from nginx's access log."""

    window_s = 60
    most_bytes = 8 << 20

    def __init__(self, path: str, minimum: int) -> None:
        self.path, self.minimum = Path(path), minimum
        self.inode, self.offset, self.last = 0, -1, 0.0
        self.rest = b""
        self.window: deque[dict[str, int]] = deque(maxlen=self.window_s // self.interval)

    def read(self) -> bytes:
        """What was appended since the last time; after a rotation, the new file from its beginning."""
        seen = self.path.stat()
        if seen.st_ino != self.inode or seen.st_size < self.offset:
            self.offset = seen.st_size if self.offset < 0 else 0
            self.inode, self.rest = seen.st_ino, b""
        # Behind by more than can be read at once: what is recent counts.
        self.offset = max(self.offset, seen.st_size - self.most_bytes)
        with self.path.open("rb") as stream:
            stream.seek(self.offset)
            data = self.rest + stream.read(self.most_bytes)
            self.offset = stream.tell()
        complete, newline, self.rest = data.rpartition(b"\n")
        return complete + newline

    def collect(self, now: float) -> Iterator[Chart]:
        counts = count_statuses(self.read())
        self.window.append(counts)
        seconds, self.last = now - (self.last or now - self.interval), now
        yield Chart(
            "phoenix_nginx.answers",
            "Answers by status",
            "answers/s",
            "phoenix.answers",
            {name: number / seconds for name, number in counts.items()},
        )
        share = error_share(self.window, self.minimum)
        yield Chart(
            "phoenix_nginx.errors",
            "Answers 5xx in the last minute",
            "% of answers",
            "phoenix.answer_errors",
            {"share": share},
        )


class NginxStatus(Collector):
    """Connections of nginx, from its own counters (stub_status)."""

    interval = 10

    def __init__(self, url: str) -> None:
        self.url = url

    def collect(self, now: float) -> Iterator[Chart]:
        with urllib.request.urlopen(self.url, timeout=TIMEOUT_S) as answer:
            text = answer.read().decode()
        found = re.findall(r"(Active|Reading|Writing|Waiting)\D*(\d+)", text)
        values = {name.lower(): int(number) for name, number in found}
        yield Chart("phoenix_nginx.connections", "Connections", "connections", "phoenix.connections", values)


class Certificate(Collector):
    """Days until the certificate that is served ends; what is served counts, not what lies in a file."""

    interval = 60

    def __init__(self, address: str, port: int, name: str) -> None:
        self.address, self.port, self.name = address, port, name

    def collect(self, now: float) -> Iterator[Chart]:
        context = ssl.create_default_context()
        # Only the date is read: a certificate of one's own has one too.
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with (
            socket.create_connection((self.address, self.port), TIMEOUT_S) as plain,
            context.wrap_socket(plain, server_hostname=self.name) as secure,
        ):
            certificate = secure.getpeercert(binary_form=True) or b""
        command = ["openssl", "x509", "-inform", "DER", "-noout", "-enddate"]
        shown = subprocess.run(command, input=certificate, capture_output=True, timeout=8, check=True).stdout.decode()
        days = (ssl.cert_time_to_seconds(shown.strip().partition("=")[2]) - time.time()) / 86400
        yield Chart(
            f"phoenix_certificate.port_{self.port}",
            f"Days left of {self.name}",
            "days",
            "phoenix.certificate",
            {"left": days},
        )

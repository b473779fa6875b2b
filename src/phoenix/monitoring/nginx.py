"""The load balancer: its answers, its connections, the certificate that it serves, and the site asked from outside."""

from __future__ import annotations

import contextlib
import http.client
import re
import socket
import ssl
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from phoenix.instances.health import HEALTHY
from phoenix.monitoring.charts import TIMEOUT_S, Chart, Collector

# The application's own time to answer included.
SITE_TIMEOUT_S = 5.0
UNKNOWN_NAME = 421  # nginx's answer to a name that the site does not have
# Answers 5xx in a row that are an outage on a site with little traffic.
ROW = 5


def count_statuses(lines: bytes) -> dict[str, int]:
    """Answers of nginx's JSON access log by class of status; those of maintenance are no failures, and left out."""
    counts = dict.fromkeys(("1xx", "2xx", "3xx", "4xx", "5xx"), 0)
    for digit in re.findall(rb'"status":([1-5])\d\d,(?!"maintenance":1,)', lines):
        counts[f"{digit.decode()}xx"] += 1
    return counts


def error_share(recent: Sequence[Mapping[str, int]], minimum: int, longest: int) -> float:
    """Percentage of answers 5xx among the newest `longest` counts; of fewer than `minimum` answers, of all counts.

    Among a few answers one failure would be a catastrophe. So there only a total one counts: `ROW` answers in a row
    that all are 5xx. Those of 4xx say nothing either way: scanners get them from nginx alone.
    """
    window = list(recent)[-longest:]
    total = sum(sum(counts.values()) for counts in window)
    if total >= max(1, minimum):
        return 100.0 * sum(counts["5xx"] for counts in window) / total
    row = 0
    for counts in reversed(recent):
        if counts["2xx"] or counts["3xx"]:
            return 0.0
        row += counts["5xx"]
        if row >= ROW:
            return 100.0
    return 0.0


class AccessLog(Collector):
    """Answers by class of status, and the share of failed ones, from nginx's access log."""

    window_s = 60
    row_s = 600
    most_bytes = 8 << 20

    def __init__(self, path: str, minimum: int) -> None:
        self.path, self.minimum = Path(path), minimum
        self.inode, self.offset, self.last = 0, -1, 0.0
        self.rest = b""
        self.window: deque[dict[str, int]] = deque(maxlen=self.row_s // self.interval)

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
        share = error_share(self.window, self.minimum, self.window_s // self.interval)
        yield Chart(
            "phoenix_nginx.errors",
            "Answers 5xx, of the last minute",
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


def secure(plain: socket.socket, name: str) -> ssl.SSLSocket:
    """The connection by TLS, as for `name`. The certificate is not verified: one of the operator's own is as good."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context.wrap_socket(plain, server_hostname=name)


def opening(proxy_protocol: bool) -> bytes:
    """How a connection begins: where proxies in front speak the PROXY protocol, as one that stands for no client."""
    return b"PROXY UNKNOWN\r\n" if proxy_protocol else b""


class Site(Collector):
    """Whether the site answers with its page at an address of it, asked by its name and from another host."""

    interval = 10
    most_bytes = 1 << 20

    def __init__(self, host: str, address: str, url: str, text: str = "", proxy_protocol: bool = False) -> None:
        self.host, self.address, self.url, self.text = host, address, urllib.parse.urlsplit(url), text
        self.opening = opening(proxy_protocol)

    def error(self) -> str:
        """What is wrong with the answer, or "".

        Raises:
            OSError, HTTPException: there was none.
        """
        tls = self.url.scheme == "https"
        request = f"GET {self.url.path} HTTP/1.1\r\nHost: {self.url.netloc}\r\nUser-Agent: phoenix-monitoring\r\n"
        with contextlib.ExitStack() as stack:
            port = self.url.port or (443 if tls else 80)
            connection = stack.enter_context(socket.create_connection((self.address, port), SITE_TIMEOUT_S))
            connection.sendall(self.opening)
            if tls:
                connection = stack.enter_context(secure(connection, self.url.hostname or self.address))
            connection.sendall(f"{request}Connection: close\r\n\r\n".encode())
            answer = http.client.HTTPResponse(connection)
            answer.begin()
            if answer.status not in HEALTHY or answer.status == UNKNOWN_NAME:
                return f"status {answer.status}"
            # A redirection to https, an error of the client: only the page itself has the text.
            if answer.status == 200 and self.text.encode() not in answer.read(self.most_bytes):
                return f"the page lacks {self.text!r}"
            return ""

    def collect(self, now: float) -> Iterator[Chart]:
        try:
            error = self.error()
        except (OSError, http.client.HTTPException) as failure:
            error = f"{type(failure).__name__}: {failure}"
        if error:
            print(f"Site: {self.url.geturl()} at {self.address}: {error}", file=sys.stderr)
        yield Chart(
            f"phoenix_site.{self.host}_{self.url.scheme}",
            f"Whether {self.url.netloc} answers",
            "yes (1) or no (0)",
            "phoenix.site",
            {"up": not error},
        )


def left_days(shown: str, now: float) -> float:
    """Days until a certificate ends, of what `openssl x509 -enddate` prints; now: seconds since 1970."""
    found = re.search(r"^notAfter=(.+)$", shown, re.MULTILINE)
    if found is None:
        raise ValueError(f"openssl printed no end of the certificate: {shown!r}")
    return (ssl.cert_time_to_seconds(found[1]) - now) / 86400


class Certificate(Collector):
    """Days until the certificate that is served ends, and whether it is for its name; what is served counts.

    While nothing is served, the one that was served last counts, or none: that its server is down is another alarm's.
    """

    interval = 60

    def __init__(self, address: str, port: int, name: str, host: str = "port", proxy_protocol: bool = False) -> None:
        self.address, self.port, self.name, self.host = address, port, name, host
        self.opening = opening(proxy_protocol)
        self.served = b""

    def read(self) -> None:
        """Read the certificate, unless the server takes no connection."""
        try:
            connection = socket.create_connection((self.address, self.port), TIMEOUT_S)
        except OSError as error:
            print(f"Certificate: {self.address} port {self.port} serves none: {error}", file=sys.stderr)
            return
        with connection as plain:
            plain.sendall(self.opening)
            # Closed at once: it has taken over what plain would close, and the server waits for a request or the end.
            with secure(plain, self.name) as secured:
                self.served = secured.getpeercert(binary_form=True) or b""

    def collect(self, now: float) -> Iterator[Chart]:
        self.read()
        if not self.served:
            return
        numeric = re.fullmatch(r"[\d.]+|.*:.*", self.name)
        command = ["openssl", "x509", "-inform", "DER", "-noout", "-enddate"]
        command += ["-checkip" if numeric else "-checkhost", self.name]
        # Its status for another name differs between versions; what it prints does not.
        shown = subprocess.run(command, input=self.served, capture_output=True, timeout=8, check=False).stdout.decode()
        yield Chart(
            f"phoenix_certificate.{self.host}_{self.port}",
            f"Days left of {self.name}",
            "days",
            "phoenix.certificate",
            {"left": left_days(shown, time.time())},
        )
        yield Chart(
            f"phoenix_certificate_name.{self.host}_{self.port}",
            f"Whether the certificate is for {self.name}",
            "yes (1) or no (0)",
            "phoenix.certificate_name",
            {"matches": "does match certificate" in shown},
        )

"""Requests sent byte for byte as given: HTTP/0.9 to 1.1 on a bare socket, HTTP/2 frame by frame.

PHOENIX_HOST      host name to request, if it is not the one in the address
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import os
import socket
import ssl
import time
from urllib.parse import urlsplit

import h2.config
import h2.connection
import h2.events
import h2.exceptions

FIRST_BYTE_S = 3.0


@functools.cache
def anybody(*protocols: str) -> ssl.SSLContext:
    """For connections to a server with whatever certificate: the lab's is self-signed.

    One for all of them, and without the machine's CAs: reading those takes longer than a request.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if protocols:
        context.set_alpn_protocols(list(protocols))
    return context


@dataclasses.dataclass(frozen=True)
class Request:
    target: bytes
    method: bytes = b"GET"
    version: str = "1.1"  # 0.9, 1.0, 1.1 or 2
    headers: tuple[tuple[bytes, bytes], ...] = ()
    body: bytes = b""


@dataclasses.dataclass(frozen=True)
class Answer:
    status: int  # 0: none (connection closed, HTTP/0.9, timed out)
    raw: bytes


class Client:
    """Sends requests byte for byte as given, one connection each."""

    def __init__(self, url: str, first_byte_s: float = FIRST_BYTE_S) -> None:
        parts = urlsplit(url)
        assert parts.hostname, url
        self.tls = parts.scheme == "https"
        self.address = (parts.hostname, parts.port or (443 if self.tls else 80))
        self.host = os.environ.get("PHOENIX_HOST", parts.hostname).encode()
        self.first_byte_s = first_byte_s
        self.statuses: collections.Counter[str] = collections.Counter()

    def send(self, request: Request) -> Answer:
        for _ in range(20):
            answer = self._http2(request) if request.version == "2" else self._http1(request)
            if answer.status != 429:
                break
            # The limit for one client must not hide the effect of the request.
            time.sleep(0.5)
        self.statuses[f"HTTP/{request.version} {answer.status}"] += 1
        return answer

    def connect(self, protocols: list[str]) -> socket.socket:
        sock = socket.create_connection(self.address, timeout=self.first_byte_s)
        if not self.tls:
            return sock
        return anybody(*protocols).wrap_socket(sock, server_hostname=self.address[0])

    def _http1(self, request: Request) -> Answer:
        target = request.target.replace(b"HOST", self.host)
        if request.version == "0.9":
            data = request.method + b" " + target + b"\r\n"
        else:
            lines = [request.method + b" " + target + b" HTTP/" + request.version.encode()]
            lines += [b"Host: " + self.host]
            lines += [name + b": " + value for name, value in request.headers]
            if not any(name.lower() == b"connection" for name, _ in request.headers):
                lines.append(b"Connection: close")
            data = b"\r\n".join(lines) + b"\r\n\r\n" + request.body.replace(b"HOST", self.host)
        raw = b""
        with self.connect(["http/1.1"]) as sock:
            try:
                sock.sendall(data)
                while chunk := sock.recv(65536):
                    raw += chunk
            except OSError:
                pass  # refused in the middle, or no more to come
        first = raw.split(b" ", 2)
        status = int(first[1]) if raw.startswith(b"HTTP/") and len(first) > 1 and first[1].isdigit() else 0
        return Answer(status, raw)

    def _http2(self, request: Request) -> Answer:
        config = h2.config.H2Configuration(
            validate_outbound_headers=False, normalize_outbound_headers=False, header_encoding=None
        )
        connection = h2.connection.H2Connection(config)
        headers: list[tuple[bytes, bytes]] = [
            (b":method", request.method),
            (b":scheme", b"https"),
            (b":authority", self.host),
            (b":path", request.target.replace(b"HOST", self.host)),
        ]
        forbidden = {b"connection", b"transfer-encoding", b"upgrade"}
        headers += [(n.lower(), v) for n, v in request.headers if n.lower() not in forbidden]
        status, raw = 0, b""
        with self.connect(["h2"]) as sock:
            try:
                connection.initiate_connection()
                connection.send_headers(1, headers, end_stream=not request.body)
                if request.body:
                    connection.send_data(1, request.body.replace(b"HOST", self.host), end_stream=True)
                sock.sendall(connection.data_to_send())
                while chunk := sock.recv(65536):
                    for event in connection.receive_data(chunk):
                        if isinstance(event, h2.events.ResponseReceived):
                            status = int(dict(event.headers or [])[b":status"])
                        elif isinstance(event, h2.events.DataReceived):
                            raw += event.data or b""
                        elif isinstance(
                            event, h2.events.StreamEnded | h2.events.StreamReset | h2.events.ConnectionTerminated
                        ):
                            return Answer(status, raw)
                    sock.sendall(connection.data_to_send())
            except (OSError, h2.exceptions.ProtocolError):
                pass
        return Answer(status, raw)

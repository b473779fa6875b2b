#!/usr/bin/python3
"""Stand-in for an instance of the application: answers every request with a description of it.

usage: upstream.py PORT [spare]

/fail     closes the connection without an answer on every port but the spares', as a dying instance does
/slow     answers after SLOW_S, or after the seconds in the path, as in /slow/8: for longer than nginx waits
/stream   a byte a second for the number of seconds in the query
/until    a byte a second for the number of seconds in the query, and on until /end with the same query was asked for
/bytes    as many bytes as the query says, without a pause; "sent" is seen once they are on their way
/socket   upgrades to WebSocket, and from then on returns each byte that it gets
/events   two server-sent events, with EVENTS_S between them
/seen     the request lines so far, as a JSON list
others    ?type=… is the answer's type, ?encoded states that it is compressed
          port, method, path and headers as JSON
"""

import json
import os
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SLOW_S = float(os.environ.get("SLOW_S", "8"))
EVENTS_S = 3
PORT = int(sys.argv[1])
SPARE = PORT in (3900, 3901) or sys.argv[2:] == ["spare"]
seen: list[str] = []


class Handler(BaseHTTPRequestHandler):
    # nginx keeps its connections.
    protocol_version = "HTTP/1.1"
    raw_requestline: bytes

    def parse_request(self) -> bool:
        parsed = super().parse_request()
        # As received, of any method and form.
        if not self.requestline.startswith("GET /seen "):
            seen.append(self.requestline.rpartition(" HTTP/")[0] or self.requestline)
        return parsed

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path == "/seen":
            self.answer(seen)
            return
        if self.path.startswith("/fail") and not SPARE:
            self.close_connection = True
            return
        # A file of one release: of the instances named, as in /assets/3000,3900/a.
        if self.path.startswith("/assets/") and str(PORT) not in self.path.split("/")[2].split(","):
            self.send_response(404)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if self.path.startswith("/slow"):
            own = self.path.partition("?")[0].removeprefix("/slow/")
            time.sleep(int(own) if own.isdigit() else SLOW_S)
        if self.path.startswith("/socket") and self.headers.get("Upgrade"):
            self.upgrade()
            return
        if self.path.startswith("/events"):
            self.events()
            return
        long = {"/stream": self.stream, "/until": self.until, "/bytes": self.bytes}
        path, _, query = self.path.partition("?")
        if path in long:
            long[path](int(query.partition("&")[0]))
            return
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.answer({"port": PORT, "method": self.command, "path": self.path, "headers": headers})

    do_POST = do_GET
    do_PATCH = do_GET
    do_PUT = do_GET
    do_DELETE = do_GET

    def stream(self, seconds: int) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(seconds))
        self.end_headers()
        for _ in range(seconds):
            self.wfile.write(b".")
            time.sleep(1)

    def until(self, seconds: int) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        while seconds > 0 or "GET /end" + self.path.removeprefix("/until") not in seen:
            self.wfile.write(b"1\r\n.\r\n")
            time.sleep(1)
            seconds -= 1
        self.wfile.write(b"0\r\n\r\n")

    def bytes(self, count: int) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(count))
        self.end_headers()
        self.wfile.write(b"." * count)
        seen.append(f"sent {self.path}")

    def upgrade(self) -> None:
        self.send_response(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        self.send_header("X-Port", str(PORT))
        self.end_headers()
        self.close_connection = True
        while data := self.connection.recv(65536):
            self.connection.sendall(data)

    def events(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        if self.path.endswith("?unbuffered"):
            self.send_header("X-Accel-Buffering", "no")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for number in (1, 2):
            event = f"data: {number} of {PORT}\n\n"
            self.wfile.write(f"{len(event):x}\r\n{event}\r\n".encode())
            time.sleep(EVENTS_S if number == 1 else 0)
        self.wfile.write(b"0\r\n\r\n")

    def answer(self, value: object) -> None:
        body = json.dumps(value).encode()
        self.send_response(200)
        kind = self.path.partition("?type=")[2]
        self.send_header("Content-Type", kind or "application/json")
        if self.path.endswith("?encoded"):
            self.send_header("Content-Encoding", "br")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Server(ThreadingHTTPServer):
    # Connections that wait to be accepted; with the usual 5, a burst would be refused.
    request_queue_size = 128


Server(("", PORT), Handler).serve_forever()

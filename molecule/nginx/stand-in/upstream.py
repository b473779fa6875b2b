#!/usr/bin/python3
"""Stand-in for an instance of the application: answers every request with a description of it.

usage: upstream.py PORT

/fail     closes the connection without an answer on every port but 3900, as a dying instance does
/seen     the request lines so far, as a JSON list
others    port, method, path and headers as JSON
"""

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SPARE = 3900
PORT = int(sys.argv[1])
seen: list[str] = []


class Handler(BaseHTTPRequestHandler):
    # nginx keeps its connections.
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path == "/seen":
            self.answer(seen)
            return
        seen.append(f"{self.command} {self.path}")
        if self.path == "/fail" and PORT != SPARE:
            self.close_connection = True
            return
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.answer({"port": PORT, "method": self.command, "path": self.path, "headers": headers})

    do_POST = do_GET
    do_DELETE = do_GET

    def answer(self, value: object) -> None:
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


ThreadingHTTPServer(("127.0.0.1", PORT), Handler).serve_forever()

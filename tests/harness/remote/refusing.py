#!/usr/bin/python3
"""A receiver that takes the heartbeat and refuses every message for good, in place of the lab's. Stdlib only."""

from __future__ import annotations

import http.server


class Refusing(http.server.BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.send_response(200 if self.path == "/heartbeat" else 410)
        self.end_headers()


if __name__ == "__main__":
    http.server.ThreadingHTTPServer(("0.0.0.0", 8025), Refusing).serve_forever()

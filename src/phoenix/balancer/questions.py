"""Requests to instances as nginx sends them, from the load balancer itself: what it does not reach, clients don't."""

from __future__ import annotations

import contextlib
import itertools
import queue
import threading
import urllib.parse
from collections.abc import Callable, Iterator, Mapping, Sequence

from phoenix.common import endpoint
from phoenix.instances import health

PAUSE_SECONDS = 0.5


class Questions:
    """GET requests to servers (`address:port`), at their address and with the headers of a proxy.

    paths: {path, host}, where without a host it is that of the site's url; limit: seconds until an answer has to begin.
    """

    def __init__(self, servers: Sequence[str], paths: Sequence[Mapping[str, str]], url: str, limit: float) -> None:
        self._servers, self._paths, self._limit = servers, paths, limit
        parts = urllib.parse.urlsplit(url)
        self._host = parts.netloc
        self._headers = {
            "X-Forwarded-Proto": parts.scheme,
            "X-Forwarded-Host": parts.netloc,
            "X-Forwarded-Port": str(parts.port or {"http": 80}.get(parts.scheme, 443)),
        }
        self._enough = threading.Event()
        self.answers: queue.SimpleQueue[tuple[str, str]] = queue.SimpleQueue()

    def _ask(self, ask: Callable[..., str], server: str, asked: Mapping[str, str]) -> str:
        address, port = endpoint.parts(server)
        host = asked.get("host") or self._host
        return ask(port, asked["path"], self._limit, host, stream=True, address=address, headers=self._headers)

    def before(self) -> str:
        """What is wrong with the answers of the servers, each path asked; "" if nothing is."""
        for server in self._servers:
            for asked in self._paths:
                if wrong := self._ask(health.ask_often, server, asked):
                    # Without its query, which may hold private data.
                    path = asked["path"].partition("?")[0]
                    return f"asked from here, as clients are served, {server} answers GET {path} with {wrong}"
                self.answers.put((server, ""))
        return ""

    def go_on(self) -> None:
        """Ask one path after the other from now on, in a thread of its own: an answer may take its time."""

        def run() -> None:
            for asked in itertools.cycle(self._paths):
                for server in self._servers:
                    self.answers.put((server, self._ask(health.ask, server, asked)))
                if self._enough.wait(PAUSE_SECONDS):
                    return

        if self._servers and self._paths:
            threading.Thread(target=run, daemon=True).start()

    def stop(self) -> None:
        """Ask no more; what was asked already may still be answered."""
        self._enough.set()

    def drain(self) -> Iterator[tuple[str, str]]:
        with contextlib.suppress(queue.Empty):
            while True:
                yield self.answers.get_nowait()

"""Requests to instances as nginx sends them, from the load balancer itself: what it does not reach, clients don't."""

from __future__ import annotations

import contextlib
import itertools
import queue
import threading
import urllib.parse
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from phoenix.common import endpoint
from phoenix.instances import health

PAUSE_SECONDS = 0.5
# How often as long as usual a slow path may take, besides the limit of every answer.
SLOW_FACTOR = 3


class Questions:
    """GET requests to servers (`address:port`), at their address and with the headers of a proxy.

    paths: {path, host}, where without a host it is that of the site's url; with `seconds`, the time that it usually
    takes, for a slow one. limit: seconds until an answer has to begin.
    """

    def __init__(self, servers: Sequence[str], paths: Sequence[Mapping[str, Any]], url: str, limit: float) -> None:
        self._servers, self._limit = servers, limit
        self._paths = [asked for asked in paths if "seconds" not in asked]
        self._slow = [asked for asked in paths if "seconds" in asked]
        parts = urllib.parse.urlsplit(url)
        self._host = parts.netloc
        self._headers = {
            "X-Forwarded-Proto": parts.scheme,
            "X-Forwarded-Host": parts.netloc,
            "X-Forwarded-Port": str(parts.port or {"http": 80}.get(parts.scheme, 443)),
        }
        self._enough = threading.Event()
        self.answers: queue.SimpleQueue[tuple[str, str]] = queue.SimpleQueue()

    def _ask(self, ask: Callable[..., str], server: str, asked: Mapping[str, Any]) -> str:
        address, port = endpoint.parts(server)
        host = asked.get("host") or self._host
        limit = self._limit + SLOW_FACTOR * asked.get("seconds", 0)
        return ask(port, asked["path"], limit, host, stream=True, address=address, headers=self._headers)

    def before(self) -> str:
        """What is wrong with the answers of the servers, each path asked that is not slow; "" if nothing is."""
        for server in self._servers:
            for asked in self._paths:
                if wrong := self._ask(health.ask_often, server, asked):
                    # Without its query, which may hold private data.
                    path = asked["path"].partition("?")[0]
                    return f"asked from here, as clients are served, {server} answers GET {path} with {wrong}"
                self.answers.put((server, ""))
        return ""

    def go_on(self) -> None:
        """Ask one path after the other from now on, in a thread of its own: an answer may take its time.

        A slow path has a thread for itself, so that no other waits for it.
        """

        def run(paths: Sequence[Mapping[str, Any]]) -> None:
            for asked in itertools.cycle(paths):
                for server in self._servers:
                    self.answers.put((server, self._ask(health.ask, server, asked)))
                if self._enough.wait(PAUSE_SECONDS):
                    return

        for paths in (self._paths, *([slow] for slow in self._slow)):
            if self._servers and paths:
                threading.Thread(target=run, args=(paths,), daemon=True).start()

    def stop(self) -> None:
        """Ask no more; what was asked already may still be answered."""
        self._enough.set()

    def drain(self) -> Iterator[tuple[str, str]]:
        with contextlib.suppress(queue.Empty):
            while True:
                yield self.answers.get_nowait()

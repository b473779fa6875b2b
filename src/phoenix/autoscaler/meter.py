"""Counts requests in sliding windows, in memory that does not grow with the rate; without I/O or a clock of its own."""

import re
from array import array
from collections.abc import Iterable
from dataclasses import dataclass

STEP = 0.25  # seconds; what a window is a multiple of
# The network may deliver a datagram twice, milliseconds apart. A key is remembered in two generations: for at least one
# generation (unless more keys than REMEMBERED arrive in it) and for at most two. No longer, because an nginx that was
# restarted numbers its connections from 1 again, and its requests are no duplicates of those before.
GENERATION_SECONDS = 1.0
REMEMBERED = 8192
# Windows are known up to the last tick; after a longer pause the daemon does not know what it missed.
LONGEST_NAP = 2.0

# As nginx writes them: <priority>time phoenix: and our own text. r: a proxied request, with the serial numbers of its
# connection and of the request within it; b: a heartbeat, with the number of open requests.
DATAGRAM = re.compile(rb"<\d{1,3}>\w{3} [ \d]\d \d\d:\d\d:\d\d phoenix: (?:r (\d{1,20} \d{1,10})|b(?: (\d{1,10}))?)\n?")


def size_of(seconds: int) -> int:
    """Totals that a window needs: one for each step, and the one before."""
    return int(seconds / STEP) + 1


@dataclass
class Counters:
    """Datagrams by what became of them, since the start."""

    requests: int = 0
    heartbeats: int = 0
    duplicates: int = 0
    foreign: int = 0
    malformed: int = 0


class Meter:
    """Requests of all balancers together.

    Times are seconds of a clock that never goes back (time.monotonic); if it does, it counts as standing still.
    """

    def __init__(self, balancers: Iterable[str], seconds: int, now: float) -> None:
        """`seconds` is the longest window that count() has to answer."""
        self.counters = Counters()
        self._size = size_of(seconds)
        # Requests up to the end of each step, so that a window is a difference of two.
        self._totals = array("Q", bytes(8 * self._size))
        self._total = 0
        self._step = int(now / STEP)
        self._heard: dict[str, float | None] = dict.fromkeys(balancers)
        self._open: dict[str, int] = {}
        self._known_since = now
        self._recent: set[tuple[str, bytes]] = set()  # keys of the current generation, and of the one before
        self._before: set[tuple[str, bytes]] = set()
        self._recent_since = now

    def receive(self, data: bytes, source: str, now: float) -> None:
        """Count one datagram."""
        if source not in self._heard:
            self.counters.foreign += 1
            return
        match = DATAGRAM.fullmatch(data)
        if match is None:
            self.counters.malformed += 1
            return
        self._heard[source] = now
        number = match[1]
        if number is None:
            self.counters.heartbeats += 1
            if match[2] is not None:
                self._open[source] = int(match[2])
            return
        key = (source, number)
        if key in self._recent or key in self._before:
            self.counters.duplicates += 1
            return
        self._recent.add(key)
        if len(self._recent) >= REMEMBERED:
            self._begin_generation(now)
        self.counters.requests += 1
        self._total += 1

    def tick(self, now: float, silent_seconds: float) -> None:
        """Close the steps up to now. To be called about every STEP."""
        step = int(now / STEP)
        nap = (step - self._step) * STEP
        for number in range(max(self._step, step - self._size), step):
            self._totals[number % self._size] = self._total
        self._step = max(self._step, step)
        if nap > LONGEST_NAP or self.silent(now, silent_seconds):
            self._known_since = now
        if now - self._recent_since >= GENERATION_SECONDS:
            self._begin_generation(now)

    def _begin_generation(self, now: float) -> None:
        self._before, self._recent, self._recent_since = self._recent, set(), now

    def silent(self, now: float, seconds: float) -> list[str]:
        """Balancers that sent nothing within the last `seconds`, or never did."""
        return [name for name, heard in self._heard.items() if heard is None or now - heard > seconds]

    def age(self, now: float) -> float:
        """Seconds since the last datagram of the balancer silent for longest; infinite if one has never sent any."""
        return max(float("inf") if heard is None else now - heard for heard in self._heard.values())

    def known_seconds(self, now: float) -> float:
        """Seconds for which every balancer has been heard without a gap."""
        return max(0.0, now - self._known_since)

    def forget(self, now: float) -> None:
        """Begin to know the rate again: what was heard up to now is not what clients want."""
        self._known_since = now

    def count(self, seconds: float) -> int:
        """Requests within the last `seconds`, up to the last tick."""
        steps = min(int(seconds / STEP), self._size - 1)
        last = self._totals[(self._step - 1) % self._size]
        return int(last - self._totals[(self._step - 1 - steps) % self._size])

    def resize(self, seconds: int) -> None:
        """Answer for windows of up to `seconds` from now on; what is known of them stays."""
        size, former = size_of(seconds), self._size
        if size == former:
            return
        kept = range(self._step - min(size, former), self._step)
        # Steps before those have no total: a longer window may not be known from before the oldest one.
        totals = array("Q", [self._totals[kept[0] % former]]) * size
        for number in kept:
            totals[number % size] = self._totals[number % former]
        self._totals, self._size = totals, size
        self._known_since = max(self._known_since, (kept[0] + 1) * STEP)

    def open(self, now: float, seconds: float) -> int:
        """Requests that are open at the balancers, of those that were heard within the last `seconds`.

        What a silent one had may by now be open at another.
        """
        silent = self.silent(now, seconds)
        return sum(count for name, count in self._open.items() if name in self._heard and name not in silent)

    def rebalance(self, balancers: Iterable[str]) -> None:
        """Accept datagrams of these balancers from now on; what has been counted stays."""
        self._heard = {name: self._heard.get(name) for name in balancers}

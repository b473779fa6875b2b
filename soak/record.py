"""What a soak recorded, and whether it was good. Times are seconds after the load began."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

# A client waits this long for an answer before it asks again: several times as long as a frozen instance needs to be
# replaced, also on a slow machine.
PATIENCE_S = 30
# The load has so many connections, each with one request in flight at most, which a lost load balancer takes along.
IN_FLIGHT = 64


@dataclass
class Struck:
    """A fault and its end.

    at: its begin. ended: when what was away came back, or what was done was done. whole: when the fleet was as before,
    or None if it was not within the limit, and `missing` says why. seen: what was observed meanwhile.
    """

    number: int
    kind: str
    host: str
    limit_s: float
    lasts: bool = False
    moves: bool = False
    at: float = 0.0
    ended: float | None = None
    whole: float | None = None
    seen: str = ""
    error: str = ""
    missing: list[str] = field(default_factory=list)

    @property
    def recovered_s(self) -> float | None:
        return None if self.whole is None or self.ended is None else self.whole - self.ended

    @property
    def wrong(self) -> list[str]:
        name = f"{self.number} {self.kind} {self.host}".rstrip()
        found = [f"{name}: {self.error}"] if self.error else []
        if self.whole is None:
            found.append(f"{name}: not as before after {self.limit_s:.0f} s: {', '.join(self.missing) or 'not seen'}")
        return found


# Of reads: when due, latency, and 0 if it succeeded at first, 1 if at the second attempt, 2 if it failed.
Read = Sequence[Any]
# Of writes: when acknowledged, and how long after it was due.
Write = Sequence[Any]


@dataclass
class Record:
    """All of it. reads, writes: the results of the loads, with their series. differences: at the end.

    read_p99_limit_s: what the 99th percentile of all reads may be, or None where the machine is not to be judged.
    """

    seed: int
    seconds: float = 0.0
    faults: list[Struck] = field(default_factory=list)
    left_out: Mapping[str, str] = field(default_factory=dict)
    reads: dict[str, Any] = field(default_factory=dict)
    writes: dict[str, Any] = field(default_factory=dict)
    differences: list[str] = field(default_factory=list)
    equal: bool = False
    error: str = ""
    read_p99_limit_s: float | None = None

    @property
    def wrong(self) -> list[str]:
        """What did not go as it has to; [] where the soak was good."""
        found = [self.error] if self.error else []
        found += [one for fault in self.faults for one in fault.wrong]
        found += self.reads_wrong() + self.read_p99_wrong() + self.writes_wrong() + self.differences
        if not self.faults:
            found.append("no fault was provoked")
        return found

    def reads_wrong(self) -> list[str]:
        reads = self.reads
        if not reads:
            return ["no read was sent"]
        found = []
        if reads["failed"]:
            found.append(f"{reads['failed']} of {reads['sent']} reads failed: {', '.join(reads['failures'])}")
        if reads["sent"] < 0.9 * reads["due"]:
            found.append(f"only {reads['sent']} of {reads['due']} reads were sent")
        counts = {fault.number: 0 for fault in self.faults if fault.moves}
        elsewhere = []
        for due, latency, outcome in reads["series"]:
            if outcome == 1:
                blamed = [one for one in self.faults if one.moves and in_flight(one, due, latency)]
                if blamed:
                    counts[blamed[-1].number] += 1
                else:
                    elsewhere.append(due)
        if elsewhere:
            spans = [(one.kind, one.at, self.seconds if one.whole is None else one.whole) for one in self.faults]
            under = {kind for kind, at, whole in spans if any(at <= due <= whole for due in elsewhere)}
            found.append(
                f"{len(elsewhere)} reads failed at first, and no load balancer was lost then: due at "
                f"{elsewhere[0]:.1f} to {elsewhere[-1]:.1f} s ({', '.join(sorted(under)) or 'under no fault'}): "
                f"{', '.join(reads['first_failures'])}"
            )
        return found + [
            f"{number}: {count} reads failed at first, and at most {IN_FLIGHT} can be in flight"
            for number, count in counts.items()
            if count > IN_FLIGHT
        ]

    @property
    def read_p99_s(self) -> float:
        """The 99th percentile of all reads, in calm and under faults."""
        return percentile(sorted(latency for _, latency, _ in self.reads.get("series", [])), 0.99)

    def read_p99_wrong(self) -> list[str]:
        if self.read_p99_limit_s is None or self.read_p99_s <= self.read_p99_limit_s:
            return []
        calm = percentile(self.latencies()["calm"], 0.99)
        return [
            f"the 99th percentile of reads is {self.read_p99_s:.2f} s, and at most {self.read_p99_limit_s:g} s is "
            f"wanted; in calm it was {calm:.2f} s (--p99 gives another limit)"
        ]

    def writes_wrong(self) -> list[str]:
        writes = self.writes
        if not writes:
            return ["no write was sent"]
        found = []
        if writes["lost"]:
            found.append(f"{len(writes['lost'])} acknowledged writes are lost: {writes['lost'][:10]}")
        if not self.equal:
            found.append("the members' data differ")
        times = [at for at, _ in writes["series"]]
        return found + [
            f"{fault.number} {fault.kind}: no write was acknowledged while it lasted"
            for fault in self.faults
            if fault.lasts and fault.ended is not None and not any(fault.at <= at < fault.ended for at in times)
        ]

    def calm(self, due: float) -> bool:
        """Whether the fleet was as it has to be at this moment."""
        return not any(one.at <= due <= (self.seconds if one.whole is None else one.whole) for one in self.faults)

    def latencies(self) -> dict[str, list[float]]:
        """The latencies of reads, in calm and under faults, each in order."""
        found: dict[str, list[float]] = {"calm": [], "faults": []}
        for due, latency, _ in self.reads.get("series", []):
            found["calm" if self.calm(due) else "faults"].append(latency)
        return {name: sorted(values) for name, values in found.items()}


def in_flight(fault: Struck, due: float, latency: float) -> bool:
    """Whether a request may have been in flight on a load balancer that this fault took away."""
    return due + latency >= fault.at and (fault.ended is None or due <= fault.ended)


def percentile(ordered: Sequence[float], share: float) -> float:
    """Of values in order; 0.0 of none."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0


def each_second(series: Iterable[Sequence[Any]], seconds: int) -> list[list[float]]:
    """The latencies by the second in which their first column is, each in order."""
    found: list[list[float]] = [[] for _ in range(seconds)]
    for at, latency, *_ in series:
        if 0 <= at < seconds:
            found[int(at)].append(latency)
    return [sorted(values) for values in found]

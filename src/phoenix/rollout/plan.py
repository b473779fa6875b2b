"""Plan a roll-out: the order of the instances, and the conditions a canary must meet before the others follow."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from phoenix.common import endpoint
from phoenix.rollout import evidence, latencies, reach

# Where each of the others answers this many requests, an instance that answers less than this share of it hangs.
BUSY, STARVED = 100, 0.02
# How many others' memory a canary's is compared with.
NEIGHBOURS = 3
# A process grows for a while after its start: a short observation does not predict the long run.
FORESIGHT = 3


@dataclass(frozen=True)
class Policy:
    """Limits of a canary.

    error_share: by how much its share of 5xx may exceed the others', beside what is chance; latency_factor and
    latency_allowance_s: its median and 95th percentile may be others * factor + allowance, or limit_s where there are
    no others; memory_margin_mb: by how much it may exceed the largest of the others, or grow; memory_horizon_s:
    growing further as it does, it must not reach the limit at which it is killed within these seconds, or in
    FORESIGHT times as long as it was watched if that is less; even: whether requests spread over all instances, and
    one with next to none hangs. Not with affinity: few clients, or one address, may all belong to others.
    """

    error_share: float = 0.01
    latency_factor: float = 3.0
    latency_allowance_s: float = 0.1
    limit_s: float = 2.0
    memory_margin_mb: float = 64.0
    memory_horizon_s: float = 120.0
    even: bool = True


Place = tuple[Mapping[str, Any], int]


def _step(places: Sequence[Place]) -> dict[str, Any]:
    """Instances that are switched at once: {"servers", "parts": [{"host", "ports"}]}, a part for each host."""
    ports: dict[str, list[int]] = {}
    for host, port in places:
        ports.setdefault(host["name"], []).append(port)
    return {
        "servers": [endpoint.of(host["address"], port) for host, port in places],
        "parts": [{"host": host, "ports": own} for host, own in ports.items()],
    }


def _waves(places: Sequence[Place], total: int, share: float) -> list[list[Place]]:
    """A share of all these instances at once: at least one, at most half."""
    size = max(1, min(int(total * share), total // 2))
    return [list(places[start : start + size]) for start in range(0, len(places), size)]


def _steps(waves: Sequence[list[Place]], last: Sequence[list[Place]], *, together: bool) -> list[dict[str, Any]]:
    """The steps after the canary's: `last`, the last ports of each host, spread over the waves, or after them."""
    # Never all of them at once.
    rounds = max(len(waves), min(2, len(last))) if together else len(last)
    at_once = max(1, -(-len(last) // max(1, rounds)))
    groups = [[place for one in last[at : at + at_once] for place in one] for at in range(0, len(last), at_once)]
    if not together:
        return [_step(group) for group in [*waves, *groups]]
    nothing: list[Place] = []
    return [_step([*wave, *group]) for wave, group in itertools.zip_longest(waves, groups, fillvalue=nothing)]


def plan(
    statuses: Mapping[str, Mapping[str, Any]],
    hosts: Sequence[Mapping[str, Any]],
    release: str,
    last_ports: Sequence[int] = (),
    share: float = 0.0,
    drained: Collection[str] = (),
) -> dict[str, Any]:
    """The steps that bring every running instance to `release`.

    `statuses` is what `phoenixctl instances status` prints on each host, {host: {"instances": [{port, active, release,
    stale}]}}, where `stale` is meant for `release`, and for the host's configuration. `hosts` are {name, address}, in
    order. A step holds up to `share` of the ordinary instances, at least one and at most half, on as many hosts as
    possible, so that none starts many at once. `last_ports` (spares, sacrificial instances) catch failed requests until
    the canary has held; then those of some of the hosts are switched in each step, never of all. With no share, one
    after the other is switched, these at the end. `drained` servers are out of rotation until they are found healthy:
    they come first, and are switched even when they run the release. Where no ordinary instance runs, a spare is the
    canary.

    Returns {"canary": step or None, "steps": the others, "already": ordinary servers that run it, "others": ordinary
    servers that don't, "neighbours": some of the latter as {host: ports}}.
    """
    ordinary: list[tuple[bool, int, int, Place]] = []
    last: list[list[Place]] = []
    already: list[str] = []
    total = 0
    for number, host in enumerate(hosts):
        late: list[Place] = []
        turn = 0
        for instance in statuses.get(host["name"], {}).get("instances", []):
            if not instance["active"]:
                continue
            place = (host, instance["port"])
            out = endpoint.of(host["address"], instance["port"]) in drained
            fits = instance["release"] == release and not instance["stale"] and not out
            if instance["port"] in last_ports:
                late += [] if fits else [place]
                continue
            total += 1
            if fits:
                already.append(endpoint.of(host["address"], instance["port"]))
            else:
                ordinary.append((not out, turn, number, place))
                turn += 1
        last += [late] if late else []
    # The first of each host, then the second of each: the canary is the first host's.
    places = [place for *_, place in sorted(ordinary, key=lambda one: one[:3])]
    if not total and last:
        # Nothing else serves: one of the spares is the canary.
        places, last = [last[0][0]], [one for one in ([*last[0][1:]], *last[1:]) if one]
    steps = _steps(_waves(places[1:], total, share), last, together=share > 0)
    neighbours: dict[str, list[int]] = {}
    for host, port in places[1 : 1 + NEIGHBOURS]:
        neighbours.setdefault(host["name"], []).append(port)
    return {
        "canary": _step(places[:1]) if places else None,
        "neighbours": neighbours,
        "steps": steps,
        "already": already,
        "others": [endpoint.of(host["address"], port) for host, port in places[1:]],
    }


def _sum(
    observations: Sequence[Mapping[str, Any]], servers: Sequence[str]
) -> tuple[int, int, int, dict[str, dict[int, float]]]:
    """Requests, how many of them the load balancers sent by themselves, errors, and clients' latencies by kind."""
    requests = asked = errors = 0
    kinds: dict[str, dict[int, float]] = {}
    for observation in observations:
        for server in servers:
            seen = observation.get("servers", {}).get(server, {})
            requests += seen.get("requests", 0)
            asked += seen.get("asked", 0)
            errors += seen.get("errors", 0)
            # A host's package of before 0.14.0, which a deploy may come straight from, counts all kinds together.
            for kind, buckets in seen.get("kinds", {latencies.REST: seen.get("buckets", {})}).items():
                counted = kinds.setdefault(kind, {})
                for index, count in buckets.items():
                    counted[int(index)] = counted.get(int(index), 0) + count
    return requests, asked, errors, kinds


def _usual(observations: Sequence[Mapping[str, Any]], servers: Sequence[str]) -> tuple[int, int]:
    """Answers of these servers while the canary was watched and shortly before, and how many of them were errors."""
    seen = [one.get("servers", {}).get(server, {}) for one in observations for server in servers]
    answers = sum(one.get("requests", 0) + one.get("earlier", 0) for one in seen)
    return answers, sum(one.get("errors", 0) + one.get("earlier_errors", 0) for one in seen)


def growth(samples: Sequence[Sequence[float]]) -> float:
    """MB per second over the second half of (seconds, MB) samples: in the first half a process still warms up.

    The least-squares slope, as a collection of garbage in between makes single differences meaningless.
    """
    half = [(float(t), float(m)) for t, m in samples[len(samples) // 2 :]]
    if len(half) < 3:
        return 0.0
    mean_t = sum(t for t, _ in half) / len(half)
    mean_m = sum(m for _, m in half) / len(half)
    spread = sum((t - mean_t) ** 2 for t, _ in half)
    return sum((t - mean_t) * (m - mean_m) for t, m in half) / spread if spread else 0.0


def judge(
    observations: Sequence[Mapping[str, Any]],
    canaries: Sequence[str],
    others: Sequence[str],
    memory: Mapping[str, Any],
    others_mb: Sequence[float] = (),
    policy: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Judge a canary: {"faults": sentences, "again": whether to watch it once more, "seen": one sentence of figures}.

    Once more where the 95th percentile is the only fault, and no load balancer has taken it out: answers are not
    independent of each other. A pause of half a second in ten is 5 % of the requests, and a process that has just
    started may have one.

    `observations` are what each load balancer counted, `memory` what the canary's host saw of it ({"samples":
    [[s, MB]], "ended": times that its process ended, "max_mb": its limit, 0 for none}), `others_mb` the memory of other
    instances at the end.
    """
    rules = Policy(**(policy or {}))
    requests, asked, errors, kinds = _sum(observations, canaries)
    other_requests, _, other_errors, other_kinds = _sum(observations, others)
    buckets, other_buckets = latencies.pooled(kinds), latencies.pooled(other_kinds)
    faults = []
    if not requests:
        faults.append("no request reached it, so it has proven nothing")
    usual, usual_errors = _usual(observations, others)
    if evidence.worse(errors, requests, usual_errors, usual, rules.error_share):
        beside = usual_errors / usual if usual else 0.0
        faults.append(
            f"{errors} of its {requests} answers were 5xx or none at all ({errors / requests:.1%}; the others: "
            f"{beside:.1%})"
        )
    beside_requests = other_requests / len(others) if others else 0.0
    if (
        rules.even
        and beside_requests >= BUSY
        and (requests - asked) / max(1, len(canaries)) < beside_requests * STARVED
    ):
        faults.append(
            f"it answered {requests - asked} requests while each of the others answered {beside_requests:.0f}"
        )
    compared = latencies.Comparison(kinds, other_kinds, rules.latency_factor, rules.latency_allowance_s, rules.limit_s)
    tail = compared.fault("95th percentile", 0.95)
    faults += filter(None, (compared.fault("median", 0.5), tail))
    if memory.get("ended"):
        faults.append(f"its process ended {memory['ended']} times")
    samples, limit = memory.get("samples", []), float(memory.get("max_mb", 0))
    last = float(samples[-1][1]) if samples else 0.0
    rate = growth(samples)
    # V8 lets buffers of 64 MB outside its heap pile up before it collects: until then growth proves nothing, unless
    # there is no room for as many.
    grown = last - float(samples[0][1]) if samples else 0.0
    counts = grown > rules.memory_margin_mb or limit - last < rules.memory_margin_mb
    watched = float(samples[-1][0]) - float(samples[0][0]) if samples else 0.0
    horizon = min(rules.memory_horizon_s, FORESIGHT * watched)
    if others_mb and last > max(others_mb) + rules.memory_margin_mb:
        faults.append(f"it takes {last:.0f} MB of memory (the others: {max(others_mb):.0f} MB at most)")
    elif counts and limit and rate > 0 and last + rate * horizon > limit:
        faults.append(
            f"its memory grows by {rate:.1f} MB a second, from {last:.0f} MB to the limit of "
            f"{limit:.0f} MB in {max(0.0, (limit - last) / rate):.0f} s"
        )
    figures = [
        f"{asked} requests, {failed} failed, "
        f"median {latencies.quantile(counted, 0.5):.3f} s, 95 % {latencies.quantile(counted, 0.95):.3f} s"
        for asked, failed, counted in ((requests, errors, buckets), (other_requests, other_errors, other_buckets))
    ]
    return {
        "faults": faults,
        "again": faults == [tail] and not any(one.get("ended") for one in observations),
        "seen": f"{figures[0]}, {last:.0f} MB; the others: {figures[1]}",
    }


def verdict(
    traffic: Sequence[Mapping[str, Any]],
    canaries: Sequence[str],
    others: Sequence[str],
    policy: Mapping[str, Any],
    memory: Mapping[str, Any] | None = None,
    others_memory: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """judge() from the results of tasks: the load balancers' counts, and the hosts' samples of instances' memory."""
    own = reach.outputs([memory or {}])
    samples = [one["samples"] for host in reach.outputs(others_memory) for one in host.values() if one["samples"]]
    return judge(
        reach.outputs(traffic),
        canaries,
        others,
        next(iter(own[0].values())) if own else {},
        [float(last[-1][1]) for last in samples],
        policy,
    )


def rehearsal(samples: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The paths that clients requested from any of the load balancers, each once, from the results of tasks.

    Without those that are slow on any of them.
    """
    without = {(asked["path"], asked["host"]) for asked in slow(samples)}
    found = [
        asked for paths in reach.outputs(samples) for asked in paths if (asked["path"], asked["host"]) not in without
    ]
    return [asked for number, asked in enumerate(found) if asked not in found[:number]]


def slow(samples: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The slow ones among them, with the longest `seconds` that any load balancer saw."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for paths in reach.outputs(samples):
        for asked in paths:
            if "seconds" in asked:
                known = found.setdefault((asked["path"], asked["host"]), dict(asked))
                known["seconds"] = max(known["seconds"], asked["seconds"])
    return list(found.values())

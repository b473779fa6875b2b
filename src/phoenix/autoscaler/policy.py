"""When to scale, and to how many instances: a pure function. The reasons are in docs/decisions/0020-when-to-scale.md

Scaling out takes evidence: a count or a trend that noise would not produce. It is as large as the load, its trend and
its clumping require by the time that new instances are ready. Scaling in weighs idle instances against an action.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from math import ceil, inf, sqrt
from typing import Annotated, Literal

from pydantic import Field

from phoenix.autoscaler import load
from phoenix.autoscaler.floor import Floor

# A step has to last for as long as this before its size is trusted: the shortest window then lies beyond its edge.
CONFIRM_SECONDS = 0.5
SHORTEST_WINDOW = 1
# Windows between the panic and the long one, as multiples of the stable one, for loads that rise slowly.
RISE_WINDOWS = (0.5, 1, 2)
# A trend may at most double the load until its end is seen, as the HPA doubles at most.
TREND_MOST = 2.0
# Idle time is integrated over the time between two decisions; after a longer pause it is not known.
LONGEST_PAUSE = 2.0
# While the load falls, spare capacity grows: its idle time counts by so much more.
FALLING_WEIGHT = 1.5
# Open requests that begin independently are Poisson-distributed. In only to where they are so many standard deviations
# below the capacity, or their noise would soon require the instance again.
OPEN_DOUBT = 3.0

Action = Literal["out", "in", "hold"]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Rates in requests a second, times in seconds. The bounds apply where a configuration file is read.

    Raises:
        ValueError: the values contradict each other.
    """

    target: Annotated[float, Field(gt=0)] = 10.0  # for one instance
    open_target: Annotated[int, Field(ge=0)] = 0  # open requests for one instance; 0: they do not count
    minimum: Annotated[int, Field(ge=1)] = 1
    maximum: Annotated[int, Field(ge=1)]
    panic_seconds: Annotated[int, Field(ge=2, le=30)] = 6
    stable_seconds: Annotated[int, Field(ge=10, le=600)] = 30
    long_seconds: Annotated[int, Field(ge=60, le=3600)] = 600
    stabilisation_seconds: Annotated[float, Field(gt=0, le=86400)] = 30.0
    lead_seconds: Annotated[float, Field(ge=0, le=600)] = 8.0  # from a decision to rotation
    patience_seconds: Annotated[float, Field(ge=0, le=86400)] = 20.0  # of an idle fleet that are worth an action
    calm: Annotated[float, Field(gt=0, le=1)] = 0.95  # share of the capacity whose noise is never acted on
    significance: Annotated[float, Field(ge=0, le=10)] = 5.0  # standard deviations
    burst_quantile: Annotated[float, Field(ge=0.5, lt=1)] = 0.95  # of clumped traffic that the capacity covers

    def __post_init__(self) -> None:
        if self.minimum > self.maximum:
            raise ValueError(f"minimum {self.minimum} is above maximum {self.maximum}: lower one or raise the other")
        if not self.panic_seconds < self.stable_seconds < self.long_seconds:
            raise ValueError(
                f"panic_seconds {self.panic_seconds}, stable_seconds {self.stable_seconds} and long_seconds "
                f"{self.long_seconds} must increase in this order"
            )


@dataclass(frozen=True)
class Inputs:
    """What is known now. `count(w)` is the number of requests within the last w seconds."""

    now: float
    count: Callable[[int], int]
    known_seconds: float  # for which all balancers have been heard without a gap
    silent: tuple[str, ...]  # balancers that are not heard
    capacity: int
    pending: int | None = None  # the capacity that a running action will result in
    frozen: str = ""  # why nothing may be changed now
    floor: Floor | None = None  # a schedule's minimum, beside that of the settings
    room: int | None = None  # instances that the hosts hold now, where further hosts are made on demand
    open: int = 0  # requests that the balancers have open: WebSocket connections, streams, polls, slow answers


@dataclass(frozen=True)
class Memory:
    """What a decision needs from earlier ones."""

    at: float = -inf
    noise: load.Noise = field(default_factory=load.Noise)
    trend: load.Trend = field(default_factory=load.Trend)
    edge: float = -inf  # when the load last jumped
    suspected_since: float | None = None
    panic_until: float = -inf
    crowded_since: float | None = None  # more open requests than the capacity is meant for
    # (time, instances needed), in order of time, later ones smaller: the first is the greatest of the window.
    needs: tuple[tuple[float, int], ...] = ()
    needs_since: float | None = None
    idle: float = 0.0  # seconds of an idle fleet since fewer instances have been enough


@dataclass(frozen=True)
class Decision:
    """`desired` is what the load requires within the bounds; `count` the capacity to have now, with the reason.

    `needed` is the number of instances that there have to be hosts for: `desired` once that is sure, or what runs.
    """

    action: Action
    count: int
    desired: int
    reason: str
    stable_rate: float
    panic_rate: float
    at_maximum: bool
    cause: str  # the reason without its numbers
    needed: int


def lowest(settings: Settings, floor: Floor | None) -> int:
    """The minimum that applies: the greater one, but no more than the maximum."""
    return min(max(settings.minimum, floor.count if floor else 0), settings.maximum)


@dataclass(frozen=True)
class Verdict:
    """A rule's answer."""

    action: Action
    count: int
    cause: str
    detail: str = ""


@dataclass(frozen=True)
class Case:
    """One moment as the rules see it: the inputs, and the load measured against the capacity."""

    settings: Settings
    inputs: Inputs
    memory: Memory  # updated
    having: int  # instances, with those that are being started
    level: float  # requests a second
    headroom: float  # requests a second that clumping adds
    wanted: int  # instances that the load requires, whatever the bounds
    excess: int  # instances that a significant excess requires; 0 if there is none
    why: str  # the numbers of that excess

    @property
    def minimum(self) -> int:
        return lowest(self.settings, self.inputs.floor)

    @property
    def desired(self) -> int:
        return min(max(self.wanted, self.minimum), self.settings.maximum)

    @property
    def room(self) -> int:
        """Instances that there may be now: the hosts of the maximum may have to be made first."""
        room = self.inputs.room
        return self.settings.maximum if room is None else min(room, self.settings.maximum)

    @property
    def needed(self) -> int:
        return max(self.having, self.minimum, self.desired if self.excess else 0)

    @property
    def spare_above(self) -> int:
        """Instances that were enough throughout the stabilisation window."""
        return max(self.minimum, self.memory.needs[0][1])

    def hold(self, cause: str, detail: str = "") -> Verdict:
        return Verdict("hold", self.having, cause, detail)


# --- the rules


def frozen(case: Case) -> Verdict | None:
    return case.hold(case.inputs.frozen) if case.inputs.frozen else None


def acting(case: Case) -> Verdict | None:
    return None if case.inputs.pending is None else case.hold(f"scaling to {case.inputs.pending} instances")


def bounds(case: Case) -> Verdict | None:
    """A capacity outside the bounds: an operator's, or they have changed, or a schedule has begun."""
    if case.inputs.capacity < min(case.minimum, case.room):
        floor = case.inputs.floor
        scheduled = floor is not None and case.minimum > case.settings.minimum
        return Verdict(
            "out",
            min(case.minimum, case.room),
            "below the minimum",
            f" of {floor.source}" if floor and scheduled else "",
        )
    if case.inputs.capacity > case.settings.maximum:
        return Verdict("in", case.room, "above the maximum")
    if case.inputs.capacity > case.room:
        return Verdict("in", case.room, "above what the hosts hold")
    return None


def grow(case: Case) -> Verdict | None:
    """Out on a significant excess, at once and by as many as needed."""
    if not case.excess:
        return None
    if case.having >= case.settings.maximum:
        return case.hold("at the maximum", f": {case.why}")
    if case.having >= case.room:
        return case.hold("waiting for hosts on demand", f": {case.why}")
    return Verdict("out", min(case.desired, case.room), "the load exceeds the capacity", f": {case.why}")


def noise(case: Case) -> Verdict | None:
    """Above the target on paper, but not beyond what noise does."""
    return case.hold("within the noise of the capacity") if case.desired > case.having else None


def shrink(case: Case) -> Verdict:
    """In to the greatest need of the stabilisation window, once the idle instances have cost as much as an action.

    The rule of rent or buy (Karlin et al., Competitive snoopy caching, Algorithmica 1988): whatever comes, it costs at
    most twice what foresight would. So much spare capacity goes soon, a little late.
    """
    settings, memory, having, floor = case.settings, case.memory, case.having, case.spare_above
    known = memory.needs_since is not None and memory.at - memory.needs_since >= settings.stabilisation_seconds
    obstacles: Iterable[tuple[bool, str]] = (
        (bool(case.inputs.silent), f"no datagrams from {', '.join(case.inputs.silent)}: the rate is unknown"),
        (having <= case.minimum, "at the minimum"),
        (memory.at < memory.panic_until, "too soon after a sudden rise"),
        (not known, "not enough data yet to scale in"),
        (floor >= having, "the capacity fits"),
        (memory.trend.slope > 0, "the load is rising"),
        (memory.idle < settings.patience_seconds, "the spare capacity is not yet worth an action"),
    )
    for present, cause in obstacles:
        if present:
            return case.hold(cause)
    return Verdict(
        "in", floor, "fewer requests", f": {floor} were enough throughout {settings.stabilisation_seconds:g} s"
    )


RULES: tuple[Callable[[Case], Verdict | None], ...] = (frozen, acting, bounds, grow, noise, shrink)  # the first decides


def decide(settings: Settings, inputs: Inputs, memory: Memory) -> tuple[Decision, Memory]:
    """One decision, and what to remember for the next one."""
    case = _measure(settings, inputs, memory)
    verdict = next(found for rule in RULES if (found := rule(case)))
    counts = _counts(settings, inputs, case.memory.at)
    decision = Decision(
        action=verdict.action,
        count=verdict.count,
        desired=case.desired,
        needed=case.needed,
        reason=verdict.cause + verdict.detail,
        stable_rate=round(counts.rate(settings.stable_seconds), 2),
        panic_rate=round(counts.rate(settings.panic_seconds), 2),
        at_maximum=case.wanted > settings.maximum,
        cause=verdict.cause,
    )
    return decision, case.memory


def explain(settings: Settings, inputs: Inputs, memory: Memory) -> str:
    """Say in one sentence why the capacity is what it is, and what would change it."""
    case = _measure(settings, inputs, memory)
    verdict = next(found for rule in RULES if (found := rule(case)))
    slope = case.memory.trend.slope
    load_now = f"{case.level:.1f} requests/s"
    load_now += f", {'rising' if slope > 0 else 'falling'} by {abs(slope):.2f}/s each second" if slope else ""
    load_now += f", in bursts {case.headroom:.1f}/s higher" if case.headroom else ""
    load_now += f", and {inputs.open} open requests" if settings.open_target else ""
    reason = verdict.cause + verdict.detail
    if case.having == case.minimum and inputs.floor and case.minimum > settings.minimum:
        reason += f" of {inputs.floor.source}"
    if verdict.action != "hold":
        return f"The capacity is {case.having} for {load_now}, and is to be {verdict.count}: {reason}."
    sentence = f"The capacity is {case.having} for {load_now}: {reason}"
    if inputs.frozen or inputs.pending is not None:
        return f"{sentence}; nothing changes before that ends."
    grows = f"it grows above {_grows_at(case):.1f}/s for {settings.stable_seconds} s, at once after a jump or a trend"
    if settings.open_target:
        grows += f", and above {case.having * settings.open_target} open requests for {settings.panic_seconds} s"
    if case.having >= settings.maximum:
        grows = f"it can't grow beyond the maximum of {settings.maximum}"
    shrinks = f"it can't shrink below the minimum of {case.minimum}"
    if case.having > case.minimum:
        wait = settings.stabilisation_seconds + settings.patience_seconds * case.having
        below = max(0.0, ((case.having - 1) * settings.target - case.headroom) * settings.calm)
        also = f" and {_few_open(settings, case.having - 1)} open requests" if settings.open_target else ""
        shrinks = f"it shrinks by one below {below:.1f}/s{also} for {wait:.0f} s, and sooner by more"
    return f"{sentence}; {grows}; {shrinks}."


def _grows_at(case: Case) -> float:
    """The rate over the stable window at which the excess is significant, or at which bursts exceed the capacity."""
    settings, room = case.settings, case.having * case.settings.target
    half = settings.significance * sqrt(case.memory.noise.deviations / settings.stable_seconds) / 2
    rate = (half + sqrt(half * half + room * settings.calm)) ** 2
    return min(rate, room - case.headroom) if case.headroom else max(rate, room)


def _few_open(settings: Settings, instances: int) -> int:
    """The most open requests for which so many instances are enough when scaling in."""
    return int((sqrt(OPEN_DOUBT**2 / 4 + instances * settings.open_target) - OPEN_DOUBT / 2) ** 2)


# --- measuring the load


def _counts(settings: Settings, inputs: Inputs, now: float) -> load.Counts:
    # The meter knows no more than the long window.
    return load.Counts(inputs.count, min(inputs.known_seconds, settings.long_seconds), now)


def _measure(settings: Settings, inputs: Inputs, memory: Memory) -> Case:
    now = max(inputs.now, memory.at)
    counts = _counts(settings, inputs, now)
    having = max(inputs.capacity, inputs.pending or 0)
    spread = load.disperse(memory.noise, counts)
    edge = load.edge(memory.edge, counts, settings.panic_seconds, spread, settings.significance)
    trend = load.trend(memory.trend, counts, edge, settings.stable_seconds, spread, settings.significance)
    level = (
        trend.level if trend.slope else load.level(counts, edge, settings.stable_seconds, settings.long_seconds, spread)
    )
    headroom = load.headroom(level, spread, settings.burst_quantile)
    # Until then, the level is a mixture of before and after the jump, whose size only the short windows know.
    settled = now - edge >= load.SHORTEST_LEVEL

    step = _step(settings, counts, having, spread)
    suspected = None if not step[0] else now if memory.suspected_since is None else min(memory.suspected_since, now)
    confirmed = suspected is not None and now - suspected >= CONFIRM_SECONDS
    excess, why = max(
        step if confirmed else (0, ""),
        _rise(settings, counts, having, spread),
        _ahead(settings, having, level, trend, headroom) if settled else (0, ""),
    )
    crowd = _instances_for(settings, inputs.open)
    crowded = None if crowd <= having else now if memory.crowded_since is None else min(memory.crowded_since, now)
    if crowded is not None and now - crowded >= settings.panic_seconds:
        excess, why = max((excess, why), (crowd, f"{inputs.open} open, {crowd} x {settings.open_target} needed"))
    need = max(crowd, 1, ceil(counts.rate(settings.stable_seconds) / settings.target - 1e-9))
    # In only to where the load is calm: otherwise its noise would soon require the instance again.
    expected = (level + max(0.0, trend.slope) * settings.lead_seconds) / settings.calm + headroom
    calm_crowd = _instances_for(settings, inputs.open + OPEN_DOUBT * sqrt(inputs.open))
    enough = max(calm_crowd, 1, ceil(expected / settings.target - 1e-9))
    needs, needs_since = _remember(settings, inputs, memory, now, enough, having)
    spare = 1 - max(needs[0][1], lowest(settings, inputs.floor)) / having if inputs.pending is None else 0.0
    after = Memory(
        at=now,
        noise=spread,
        trend=trend,
        edge=edge,
        suspected_since=suspected,
        panic_until=now + settings.stable_seconds if confirmed else memory.panic_until,
        crowded_since=crowded,
        needs=needs,
        needs_since=needs_since,
        idle=_idle(memory, now, spare, falling=trend.slope < 0),
    )
    return Case(settings, inputs, after, having, level, headroom, max(need, excess), excess, why)


def _instances_for(settings: Settings, number: float) -> int:
    """Instances for so many open requests; 0 where these do not count."""
    return ceil(number / settings.open_target - 1e-9) if settings.open_target else 0


def _step(settings: Settings, counts: load.Counts, having: int, spread: load.Noise) -> tuple[int, str]:
    """Instances that the panic windows require."""
    return _excess(settings, counts, having, spread, range(SHORTEST_WINDOW, settings.panic_seconds + 1))


def _rise(settings: Settings, counts: load.Counts, having: int, spread: load.Noise) -> tuple[int, str]:
    """Instances that the windows around the stable one require, or else the long one; 0 if none is significant."""
    windows = (round(settings.stable_seconds * multiple) for multiple in RISE_WINDOWS)
    rise, why = _excess(settings, counts, having, spread, windows)
    stable = counts.rate(settings.stable_seconds)
    if not rise and stable > having * settings.target:
        # The long window detects what is too slight for the others, but also what is over: no more than is needed now.
        rise, why = _excess(settings, counts, having, spread, (settings.long_seconds,))
        rise = min(rise, max(having + 1, ceil(stable / settings.target)))
    return rise, why


def _ahead(settings: Settings, having: int, level: float, trend: load.Trend, headroom: float) -> tuple[int, str]:
    """Instances that a trend or clumping requires by the time that they are ready.

    For a trend, those of another stable window, too: fewer actions, each larger.
    """
    room = having * settings.target
    if trend.slope > 0:
        most = level * TREND_MOST
        soon = min(level + trend.slope * settings.lead_seconds, most)
        if soon + headroom > room:
            later = min(soon + trend.slope * settings.stable_seconds, most)
            need = max(having + 1, ceil((later + headroom) / settings.target))
            return need, f"{level:.1f}/s and {trend.slope:+.2f}/s each second, {need} x {settings.target:g}/s needed"
    elif headroom > 0 and level + headroom > room:
        need = max(having + 1, ceil((level + headroom) / settings.target))
        return need, f"{level:.1f}/s in bursts {headroom:.1f}/s higher, {need} x {settings.target:g}/s needed"
    return 0, ""


def _excess(
    settings: Settings, counts: load.Counts, having: int, spread: load.Noise, windows: Iterable[int]
) -> tuple[int, str]:
    """Instances that these windows (short ones first) require beyond those there are, and why; 0 if none is sure.

    The number comes from the longest window that does not reach back beyond the edge of a step: one whose rate is as
    high, within a standard deviation, as that of the next shorter one.
    """
    rate, deviation, found = 0.0, 0.0, (0, "")
    room = having * settings.target
    for window in windows:
        number = counts.last(window)
        mean = number / window
        scatter = sqrt(spread.deviations * number) / window
        if mean <= room or mean - settings.significance * scatter <= room * settings.calm:
            continue
        if found[0] and mean < rate - deviation:
            break
        # A window's edge may catch one request more than its share.
        need = max(having + 1, ceil((number - 1) / window / settings.target))
        rate, deviation = mean, scatter
        found = (need, f"{number} in {window} s, {need} x {settings.target:g}/s needed")
    return found


def _remember(
    settings: Settings, inputs: Inputs, memory: Memory, now: float, need: int, having: int
) -> tuple[tuple[tuple[float, int], ...], float | None]:
    """The needs of the stabilisation window, and since when there is no gap in them."""
    if inputs.silent or inputs.known_seconds < settings.stable_seconds:
        return ((now, having),), None
    kept = [entry for entry in memory.needs if entry[0] > now - settings.stabilisation_seconds and entry[1] > need]
    since = now if memory.needs_since is None else memory.needs_since
    return (*kept, (now, need)), since


def _idle(memory: Memory, now: float, spare: float, *, falling: bool) -> float:
    """Seconds that the whole fleet would have been idle, had its spare share been all of it."""
    if spare <= 0:
        return 0.0
    passed = now - memory.at
    return memory.idle + (passed * (FALLING_WEIGHT if falling else 1.0) * spare if passed <= LONGEST_PAUSE else 0.0)

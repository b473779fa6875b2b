"""When to scale, and to how many instances: a pure function. The reasons are in docs/decisions/0020-when-to-scale.md

Scaling out takes evidence: a window's count has to be above the capacity, and so many standard deviations of a Poisson
process above a calm load (0.95 of the capacity) that its noise does not reach there. Short windows detect a step at
once, long ones a slight excess. Scaling in follows the greatest need within the stabilisation window.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from math import ceil, sqrt
from typing import Annotated, Literal

from pydantic import Field

# A step has to last for as long as this before its size is trusted: the shortest window then lies beyond its edge.
CONFIRM_SECONDS = 0.5
SHORTEST_WINDOW = 1
# Windows between the panic and the stable one, as shares of the latter, for loads that rise slowly.
SHARES = (0.25, 0.5, 1)

Action = Literal["out", "in", "hold"]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Rates in requests a second, times in seconds. The bounds apply where a configuration file is read.

    Raises:
        ValueError: the values contradict each other.
    """

    target: Annotated[float, Field(gt=0)] = 10.0  # for one instance
    minimum: Annotated[int, Field(ge=1)] = 1
    maximum: Annotated[int, Field(ge=1)]
    panic_seconds: Annotated[int, Field(ge=2, le=30)] = 6
    stable_seconds: Annotated[int, Field(ge=10, le=600)] = 60
    long_seconds: Annotated[int, Field(ge=60, le=3600)] = 600
    stabilisation_seconds: Annotated[float, Field(gt=0, le=86400)] = 300.0
    calm: Annotated[float, Field(gt=0, le=1)] = 0.95  # share of the capacity whose noise is never acted on
    significance: Annotated[float, Field(ge=0, le=10)] = 5.0  # standard deviations
    tolerance: Annotated[float, Field(ge=0, lt=1)] = 0.1  # share of the capacity that may stay idle

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


@dataclass(frozen=True)
class Memory:
    """What a decision needs from earlier ones."""

    suspected_since: float | None = None
    panic_until: float = float("-inf")
    # (time, instances needed), in order of time, later ones smaller: the first is the greatest of the window.
    needs: tuple[tuple[float, int], ...] = ()
    needs_since: float | None = None
    shrinking_since: float | None = None


@dataclass(frozen=True)
class Decision:
    """`desired` is what the load requires within the bounds; `count` the capacity to have now, with the reason."""

    action: Action
    count: int
    desired: int
    reason: str
    stable_rate: float
    panic_rate: float
    at_maximum: bool
    cause: str  # the reason without its numbers


@dataclass(frozen=True)
class Verdict:
    """A rule's answer. `shrinking_since`: when a need that is still falling was first waited for."""

    action: Action
    count: int
    cause: str
    detail: str = ""
    shrinking_since: float | None = None


@dataclass(frozen=True)
class Case:
    """One moment as the rules see it: the inputs, and the load measured against the capacity."""

    settings: Settings
    inputs: Inputs
    memory: Memory  # updated, except for shrinking_since
    now: float
    having: int  # instances, with those that are being started
    wanted: int  # instances that the load requires, whatever the bounds
    calm_need: int  # instances for which the load would be calm
    excess: int  # instances that a significant excess requires; 0 if there is none
    why: str  # the numbers of that excess

    @property
    def desired(self) -> int:
        return min(max(self.wanted, self.settings.minimum), self.settings.maximum)

    def hold(self, cause: str, detail: str = "") -> Verdict:
        return Verdict("hold", self.having, cause, detail)


# --- the rules


def frozen(case: Case) -> Verdict | None:
    return case.hold(case.inputs.frozen) if case.inputs.frozen else None


def acting(case: Case) -> Verdict | None:
    return None if case.inputs.pending is None else case.hold(f"scaling to {case.inputs.pending} instances")


def bounds(case: Case) -> Verdict | None:
    """A capacity outside the bounds: an operator's, or they have changed."""
    if case.inputs.capacity < case.settings.minimum:
        return Verdict("out", case.settings.minimum, "below the minimum")
    if case.inputs.capacity > case.settings.maximum:
        return Verdict("in", case.settings.maximum, "above the maximum")
    return None


def grow(case: Case) -> Verdict | None:
    """Out on a significant excess, at once and by as many as needed."""
    if not case.excess:
        return None
    if case.having >= case.settings.maximum:
        return case.hold("at the maximum", f": {case.why}")
    return Verdict("out", case.desired, "the load exceeds the capacity", f": {case.why}")


def noise(case: Case) -> Verdict | None:
    """Above the target on paper, but not beyond what noise does."""
    return case.hold("within the noise of the capacity") if case.desired > case.having else None


def shrink(case: Case) -> Verdict:
    """In to the greatest need of the stabilisation window, if nothing speaks against it."""
    settings, memory, now, having = case.settings, case.memory, case.now, case.having
    floor = max(settings.minimum, memory.needs[0][1] if memory.needs else having)
    known = memory.needs_since is not None and now - memory.needs_since >= settings.stabilisation_seconds
    tolerated = floor * settings.target >= settings.target * having * (1 - settings.tolerance)
    obstacles: Iterable[tuple[bool, str]] = (
        (bool(case.inputs.silent), f"no datagrams from {', '.join(case.inputs.silent)}: the rate is unknown"),
        (having <= settings.minimum, "at the minimum"),
        (now < memory.panic_until, "too soon after a sudden rise"),
        (not known, "not enough data yet to scale in"),
        (floor >= having, "the capacity fits"),
        (tolerated, "the capacity fits within the tolerance"),
    )
    for present, cause in obstacles:
        if present:
            return case.hold(cause)
    if max(case.calm_need, settings.minimum) < floor:
        # A window slides over the end of a load step by step: waiting for its last makes one action of many.
        since = now if memory.shrinking_since is None else memory.shrinking_since
        if now - since < settings.stabilisation_seconds:
            return Verdict("hold", having, "the need is still falling", shrinking_since=since)
    return Verdict(
        "in", floor, "fewer requests", f": {floor} were enough throughout {settings.stabilisation_seconds:g} s"
    )


RULES: tuple[Callable[[Case], Verdict | None], ...] = (frozen, acting, bounds, grow, noise, shrink)  # the first decides


def decide(settings: Settings, inputs: Inputs, memory: Memory) -> tuple[Decision, Memory]:
    """One decision, and what to remember for the next one."""
    case = _measure(settings, inputs, memory)
    verdict = next(found for rule in RULES if (found := rule(case)))
    decision = Decision(
        action=verdict.action,
        count=verdict.count,
        desired=case.desired,
        reason=verdict.cause + verdict.detail,
        stable_rate=round(_rate(inputs, settings.stable_seconds), 2),
        panic_rate=round(_rate(inputs, settings.panic_seconds), 2),
        at_maximum=case.wanted > settings.maximum,
        cause=verdict.cause,
    )
    return decision, replace(case.memory, shrinking_since=verdict.shrinking_since)


# --- measuring the load


def _measure(settings: Settings, inputs: Inputs, memory: Memory) -> Case:
    now = max(inputs.now, memory.needs[-1][0]) if memory.needs else inputs.now
    having = max(inputs.capacity, inputs.pending or 0)
    stable = _rate(inputs, settings.stable_seconds)

    step, step_why = _excess(settings, inputs, having, range(SHORTEST_WINDOW, settings.panic_seconds + 1))
    suspected = None if not step else now if memory.suspected_since is None else min(memory.suspected_since, now)
    confirmed = suspected is not None and now - suspected >= CONFIRM_SECONDS
    panic_until = now + settings.stable_seconds if confirmed else memory.panic_until
    rise, rise_why = _rise(settings, inputs, having, stable)

    excess, why = max((step if confirmed else 0, step_why), (rise, rise_why))
    need = max(1, ceil(stable / settings.target - 1e-9))
    # In only to where the load is calm: otherwise its noise would soon require the instance again.
    calm_need = max(1, ceil(stable / (settings.target * settings.calm) - 1e-9))
    needs, needs_since = _remember(settings, inputs, memory, now, calm_need, having)
    after = Memory(suspected, panic_until, needs, needs_since, memory.shrinking_since)
    return Case(settings, inputs, after, now, having, max(need, excess), calm_need, excess, why)


def _rate(inputs: Inputs, window: int) -> float:
    """Requests a second within the window, or within as much of it as is known."""
    known = max(1, min(window, int(inputs.known_seconds)))
    return inputs.count(known) / known


def _rise(settings: Settings, inputs: Inputs, having: int, stable: float) -> tuple[int, str]:
    """Instances that the stable window or its shares require, or else the long one; 0 if none is significant."""
    windows = tuple(round(settings.stable_seconds * share) for share in SHARES)
    rise, why = _excess(settings, inputs, having, windows)
    if not rise and stable > having * settings.target:
        # The long window detects what is too slight for the others, but also what is over: no more than is needed now.
        rise, why = _excess(settings, inputs, having, (settings.long_seconds,))
        rise = min(rise, max(having + 1, ceil(stable / settings.target)))
    return rise, why


def _excess(settings: Settings, inputs: Inputs, having: int, windows: Iterable[int]) -> tuple[int, str]:
    """Instances that these windows (short ones first) require beyond those there are, and why; 0 if none is sure.

    The number comes from the longest window that does not reach back beyond the edge of a step: one whose rate is as
    high, within a standard deviation, as that of the next shorter one.
    """
    rate, deviation, found = 0.0, 0.0, (0, "")
    for window in windows:
        number = inputs.count(window)
        mean = number / window
        sure = mean - settings.significance * sqrt(number) / window
        if mean <= having * settings.target or sure <= having * settings.target * settings.calm:
            continue
        if found[0] and mean < rate - deviation:
            break
        # A window's edge may catch one request more than its share.
        need = max(having + 1, ceil((number - 1) / window / settings.target))
        rate, deviation = mean, sqrt(number) / window
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

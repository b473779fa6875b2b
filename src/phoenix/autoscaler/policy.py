"""When to scale, and to what: a pure function. Why it is as it is: docs/decisions/0020-when-to-scale.md

Growing is decided by evidence: a window's count has to be above the capacity, and so many standard deviations of a
Poisson process above a calm load (0.95 of the capacity) that its noise does not reach there. Short windows see a jump
at once, long ones a slight excess.
Shrinking is decided by the greatest need within the stabilisation window.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import ceil, sqrt
from typing import Literal

# A jump has to be seen for as long as this before its size is believed: the shortest window then lies beyond its edge.
CONFIRM_SECONDS = 0.5
SHORTEST_WINDOW = 1
# Windows between the panic and the stable one, as shares of the latter, for loads that rise slowly.
SHARES = (0.25, 0.5, 1)


@dataclass(frozen=True)
class Settings:
    """Rates in requests a second, times in seconds. See config.Policy."""

    target: float
    minimum: int
    maximum: int
    panic_seconds: int = 6
    stable_seconds: int = 60
    long_seconds: int = 600
    stabilisation_seconds: float = 300.0
    calm: float = 0.95
    significance: float = 5.0
    tolerance: float = 0.1


@dataclass(frozen=True)
class Inputs:
    """What is known now. `count(w)` is the number of requests within the last w seconds."""

    now: float
    count: Callable[[int], int]
    known_seconds: float  # since when all balancers are heard without a gap
    silent: tuple[str, ...]  # balancers that are not heard
    capacity: int
    pending: int | None = None  # the capacity that a running action makes
    frozen: str = ""  # why nothing may be changed now


@dataclass(frozen=True)
class Memory:
    """What a decision needs of those before."""

    suspected_since: float | None = None
    panic_until: float = float("-inf")
    # (time, instances needed), in order of time, later ones smaller: the first is the greatest of the window.
    needs: tuple[tuple[float, int], ...] = ()
    needs_since: float | None = None
    shrinking_since: float | None = None


@dataclass(frozen=True)
class Decision:
    """`desired` is what the load asks for within the bounds; `count` what is to be made of it now, with the reason."""

    action: Literal["out", "in", "hold"]
    count: int
    desired: int
    reason: str
    stable_rate: float
    panic_rate: float
    at_maximum: bool
    cause: str  # the reason without its numbers


def decide(settings: Settings, inputs: Inputs, memory: Memory) -> tuple[Decision, Memory]:  # noqa: PLR0911 - one a rule
    """One decision, and what to remember for the next one."""
    now = max(inputs.now, memory.needs[-1][0]) if memory.needs else inputs.now
    having = max(inputs.capacity, inputs.pending or 0)
    stable = _rate(inputs, settings.stable_seconds)
    panic = _rate(inputs, settings.panic_seconds)

    jump, jump_why = _excess(settings, inputs, having, range(SHORTEST_WINDOW, settings.panic_seconds + 1))
    suspected = None if not jump else now if memory.suspected_since is None else min(memory.suspected_since, now)
    confirmed = suspected is not None and now - suspected >= CONFIRM_SECONDS
    middle = tuple(round(settings.stable_seconds * share) for share in SHARES)
    steady, steady_why = _excess(settings, inputs, having, middle)
    if not steady and stable > having * settings.target:
        # The long window sees what is too slight for the others, but also what is over: no more than is needed now.
        steady, steady_why = _excess(settings, inputs, having, (settings.long_seconds,))
        steady = min(steady, max(having + 1, ceil(stable / settings.target)))
    panic_until = now + settings.stable_seconds if confirmed else memory.panic_until

    need = max(1, ceil(stable / settings.target - 1e-9))
    excess, why = max((jump if confirmed else 0, jump_why), (steady, steady_why))
    wanted = max(need, excess) if excess else need
    desired = min(max(wanted, settings.minimum), settings.maximum)
    # In only to where the load is calm: else the same load, with its noise, would soon ask for the instance back.
    calm_need = max(1, ceil(stable / (settings.target * settings.calm) - 1e-9))
    needs, needs_since = _remember(settings, inputs, memory, now, calm_need, having)

    def decided(action: Literal["out", "in", "hold"], count: int, cause: str, detail: str = "") -> Decision:
        full = max(excess, having if wanted > settings.maximum else 0) > settings.maximum or wanted > settings.maximum
        return Decision(action, count, desired, f"{cause}{detail}", round(stable, 2), round(panic, 2), full, cause)

    after = Memory(suspected, panic_until, needs, needs_since)
    if inputs.frozen:
        return decided("hold", having, inputs.frozen), after
    if inputs.pending is not None:
        return decided("hold", having, f"making {inputs.pending} instances"), after
    if inputs.capacity < settings.minimum:
        return decided("out", settings.minimum, "below the minimum"), after
    if inputs.capacity > settings.maximum:
        return decided("in", settings.maximum, "above the maximum"), after
    if excess:
        if having >= settings.maximum:
            return decided("hold", having, "at the maximum", f": {why}"), after
        return decided("out", desired, "more requests than the instances are meant for", f": {why}"), after
    if desired > having:
        # Above the target on paper, yet not beyond what noise does.
        return decided("hold", having, "within the noise of the capacity"), after
    decision = _shrink(settings, inputs, after, now, having, decided)
    if decision.action == "in" and max(calm_need, settings.minimum) < decision.count:
        # A window slides over the end of a load step by step: waiting for its last makes one action of many.
        since = now if memory.shrinking_since is None else memory.shrinking_since
        if now - since < settings.stabilisation_seconds:
            return decided("hold", having, "the need is still falling"), replace(after, shrinking_since=since)
    return decision, after


def _shrink(  # noqa: PLR0911 - one a rule
    settings: Settings, inputs: Inputs, memory: Memory, now: float, having: int, decided: Callable[..., Decision]
) -> Decision:
    """In, where everything speaks for it."""
    floor = max(settings.minimum, memory.needs[0][1] if memory.needs else having)
    if inputs.silent:
        return decided("hold", having, f"no word from {', '.join(inputs.silent)}: the rate is unknown")
    if having <= settings.minimum:
        return decided("hold", having, "at the minimum")
    if now < memory.panic_until:
        return decided("hold", having, "not so soon after a jump")
    if memory.needs_since is None or now - memory.needs_since < settings.stabilisation_seconds:
        return decided("hold", having, "not known for long enough to shrink")
    if floor >= having:
        return decided("hold", having, "the capacity fits")
    rate = settings.target * having
    if floor * settings.target >= rate * (1 - settings.tolerance):
        return decided("hold", having, "the capacity fits within the tolerance")
    return decided(
        "in", floor, "fewer requests", f": {floor} were enough throughout {settings.stabilisation_seconds:g} s"
    )


def _rate(inputs: Inputs, window: int) -> float:
    """Requests a second within the window, or within what is known of it."""
    known = max(1, min(window, int(inputs.known_seconds)))
    return inputs.count(known) / known


def _excess(settings: Settings, inputs: Inputs, having: int, windows: range | tuple[int, ...]) -> tuple[int, str]:
    """Instances that these windows (short ones first) ask for beyond those there are, and why; 0 when none is sure.

    How many is told by the longest window that does not reach back beyond the edge of a jump: one whose rate is as
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
    """Needs of the stabilisation window, and since when there is no gap in them."""
    if inputs.silent or inputs.known_seconds < settings.stable_seconds:
        return ((now, having),), None
    kept = [entry for entry in memory.needs if entry[0] > now - settings.stabilisation_seconds and entry[1] > need]
    since = now if memory.needs_since is None else memory.needs_since
    return (*kept, (now, need)), since

"""Phoenix's own policy, and models of other autoscalers from their published algorithms and defaults.

All have the same target, and new instances take the same time to start: the algorithms are compared, not the
platforms. Where a default does not fit a rate per instance and is omitted, the model mentions it.
"""

from collections import deque
from dataclasses import dataclass, field
from math import ceil
from typing import Protocol

from phoenix.autoscaler import policy
from phoenix.autoscaler.meter import STEP, Meter


class Scaler(Protocol):
    """Observes each step's arrivals and returns the desired capacity. Times in seconds."""

    name: str
    every: float  # seconds between two decisions

    def observe(self, now: float, arrivals: int) -> None: ...

    def desired(self, now: float, ready: int, capacity: int) -> int: ...


class Counted(Meter):
    """The meter with whole steps of arrivals instead of a datagram for each."""

    def add(self, arrivals: int) -> None:
        self._total += arrivals


@dataclass
class Phoenix:
    """Phoenix's autoscaler: policy.decide over the meter's windows."""

    settings: policy.Settings
    name: str = "Phoenix"
    every: float = STEP
    decisions: list[tuple[float, policy.Decision]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.meter = Counted([], self.settings.long_seconds, 0.0)
        self.memory = policy.Memory()

    def observe(self, now: float, arrivals: int) -> None:
        self.meter.add(arrivals)
        self.meter.tick(now, 3.0)

    def desired(self, now: float, ready: int, capacity: int) -> int:
        pending = capacity if capacity != ready else None
        known = self.meter.known_seconds(now)
        inputs = policy.Inputs(now, self.meter.count, known, (), ready, pending)
        decision, self.memory = policy.decide(self.settings, inputs, self.memory)
        if decision.action != "hold":
            self.decisions.append((now, decision))
            return decision.count
        return capacity


class Window:
    """Arrivals of the last seconds."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.steps: deque[int] = deque(maxlen=round(seconds / STEP))
        self.total = 0

    def add(self, arrivals: int) -> None:
        if len(self.steps) == self.steps.maxlen:
            self.total -= self.steps[0]
        self.steps.append(arrivals)
        self.total += arrivals

    def rate(self) -> float:
        return self.total / (len(self.steps) * STEP) if self.steps else 0.0


@dataclass
class TargetTracking:
    """AWS Application Auto Scaling, target tracking, ECS service with RequestCountPerTarget.

    https://docs.aws.amazon.com/autoscaling/application/userguide/target-tracking-scaling-policy-overview.html
    Its alarms take one-minute points: out after 3 of them above the target, in after 15 below 90 % of it; cooldowns of
    300 s. Left out: CloudWatch's own delay of a minute or more, which would only make it slower.
    """

    target: float
    minimum: int
    maximum: int
    name: str = "AWS target tracking"
    every: float = 60.0
    cooldown: float = 300.0

    def __post_init__(self) -> None:
        self.minute = Window(60)
        self.points: deque[float] = deque(maxlen=15)  # requests a second for one instance
        self.quiet_until = {"out": 0.0, "in": 0.0}

    def observe(self, now: float, arrivals: int) -> None:
        self.minute.add(arrivals)

    def desired(self, now: float, ready: int, capacity: int) -> int:
        self.points.append(self.minute.rate() / max(1, ready))
        last = list(self.points)
        wanted = ceil(ready * last[-1] / self.target - 1e-9)
        busy = len(last) >= 3 and all(point > self.target for point in last[-3:]) and wanted > capacity
        if busy and now >= self.quiet_until["out"]:
            self.quiet_until["out"] = now + self.cooldown
            return wanted
        calm = len(last) == 15 and all(point < 0.9 * self.target for point in last) and wanted < capacity
        if calm and now >= max(self.quiet_until.values()):
            self.quiet_until["in"] = now + self.cooldown
            return wanted
        return capacity


@dataclass
class Hpa:
    """Kubernetes' HorizontalPodAutoscaler, autoscaling/v2 defaults.

    https://kubernetes.io/docs/tasks/run-application/horizontal-pod-autoscale/#algorithm-details
    Every 15 s: ceil(replicas x metric / target), nothing within a tolerance of 0.1; up by the larger of 4 pods and
    100 % in 15 s; down to the greatest recommendation of 300 s. The metric is the mean of 15 s, the resolution of
    metrics-server.
    """

    target: float
    minimum: int
    maximum: int
    name: str = "Kubernetes HPA"
    every: float = 15.0

    def __post_init__(self) -> None:
        self.metric = Window(15)
        self.recommended: deque[int] = deque(maxlen=20)  # 300 s

    def observe(self, now: float, arrivals: int) -> None:
        self.metric.add(arrivals)

    def desired(self, now: float, ready: int, capacity: int) -> int:
        ratio = self.metric.rate() / max(1, capacity) / self.target
        wanted = capacity if abs(ratio - 1) <= 0.1 else ceil(capacity * ratio - 1e-9)
        self.recommended.append(wanted)
        if wanted > capacity:
            return min(wanted, max(capacity + 4, capacity * 2))
        return min(capacity, max(self.recommended))


@dataclass
class Knative:
    """Knative Serving's KPA on requests a second.

    https://knative.dev/docs/serving/autoscaling/kpa-specific/
    Every 2 s; stable window 60 s, panic window 10 % of it; panic from twice the ready capacity on, and then never down
    until a stable window after; up to 1,000-fold, down to the half at once. Its target utilization of 70 % is left out.
    """

    target: float
    minimum: int
    maximum: int
    name: str = "Knative KPA"
    every: float = 2.0

    def __post_init__(self) -> None:
        self.stable, self.panic = Window(60), Window(6)
        self.panic_since: float | None = None
        self.panic_most = 0

    def observe(self, now: float, arrivals: int) -> None:
        self.stable.add(arrivals)
        self.panic.add(arrivals)

    def desired(self, now: float, ready: int, capacity: int) -> int:
        down, up = ready // 2, ready * 1000
        stable = min(max(ceil(self.stable.rate() / self.target), down), up)
        panic = min(max(ceil(self.panic.rate() / self.target), down), up)
        if panic / max(1, ready) >= 2:
            self.panic_since = now
        elif self.panic_since is not None and now - self.panic_since > 60:
            self.panic_since, self.panic_most = None, 0
        if self.panic_since is None:
            return stable
        self.panic_most = max(self.panic_most, panic, stable)
        return self.panic_most

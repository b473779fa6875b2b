"""Phoenix's policy as it runs, and models of other autoscalers after their published algorithms and defaults.

Target and start-up time are the same for all: the algorithms are compared, not the platforms. Defaults that do not fit
a rate per instance are left out, which each docstring says.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import ceil
from typing import Protocol

from phoenix.autoscaler import policy
from phoenix.autoscaler.meter import STEP


@dataclass
class Seen:
    """What has arrived so far: `totals[i]` requests up to the end of step i."""

    totals: Sequence[int]
    step: float
    index: int = 0

    @property
    def now(self) -> float:
        return self.index * self.step

    def count(self, seconds: float) -> int:
        """Requests within the last `seconds`."""
        first = self.index - int(seconds / self.step)
        return self.totals[self.index] - self.totals[first if first > 0 else 0]  # max() is slower

    def rate(self, seconds: float) -> float:
        """Requests a second within the last `seconds`, or since the beginning."""
        return self.count(seconds) / max(min(seconds, self.now), self.step)


class Scaler(Protocol):
    """Returns the capacity that it wants. Times in seconds."""

    name: str
    every: float  # seconds between two decisions

    def desired(self, seen: Seen, ready: int, capacity: int) -> int: ...


@dataclass
class Phoenix:
    """phoenix.autoscaler: policy.decide over the meter's windows."""

    settings: policy.Settings
    name: str = "Phoenix"
    every: float = STEP
    decisions: list[tuple[float, policy.Decision]] = field(default_factory=list)
    memory: policy.Memory = field(default_factory=policy.Memory)

    def desired(self, seen: Seen, ready: int, capacity: int) -> int:
        pending = capacity if capacity != ready else None
        inputs = policy.Inputs(seen.now, seen.count, seen.now, (), ready, pending)
        decision, self.memory = policy.decide(self.settings, inputs, self.memory)
        if decision.action != "hold":
            self.decisions.append((seen.now, decision))
            return decision.count
        return capacity


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
        self.points: deque[float] = deque(maxlen=15)  # requests a second for one instance
        self.quiet_until = {"out": 0.0, "in": 0.0}

    def desired(self, seen: Seen, ready: int, capacity: int) -> int:
        self.points.append(seen.rate(60) / max(1, ready))
        last = list(self.points)
        wanted = ceil(ready * last[-1] / self.target - 1e-9)
        busy = len(last) >= 3 and all(point > self.target for point in last[-3:]) and wanted > capacity
        if busy and seen.now >= self.quiet_until["out"]:
            self.quiet_until["out"] = seen.now + self.cooldown
            return wanted
        calm = len(last) == 15 and all(point < 0.9 * self.target for point in last) and wanted < capacity
        if calm and seen.now >= max(self.quiet_until.values()):
            self.quiet_until["in"] = seen.now + self.cooldown
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
        self.recommended: deque[int] = deque(maxlen=20)  # 300 s

    def desired(self, seen: Seen, ready: int, capacity: int) -> int:
        ratio = seen.rate(15) / max(1, capacity) / self.target
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
        self.panic_since: float | None = None
        self.panic_most = 0

    def desired(self, seen: Seen, ready: int, capacity: int) -> int:
        down, up = ready // 2, ready * 1000
        stable = min(max(ceil(seen.rate(60) / self.target), down), up)
        panic = min(max(ceil(seen.rate(6) / self.target), down), up)
        if panic / max(1, ready) >= 2:
            self.panic_since = seen.now
        elif self.panic_since is not None and seen.now - self.panic_since > 60:
            self.panic_since, self.panic_most = None, 0
        if self.panic_since is None:
            return stable
        self.panic_most = max(self.panic_most, panic, stable)
        return self.panic_most

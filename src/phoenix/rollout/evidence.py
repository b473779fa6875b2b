"""Whether an instance fails more often than the others, or only seems to: errors scatter.

Fisher's exact test on the two shares of failed answers, one-sided, with the mid-p correction (Lancaster 1961), as the
test alone is too cautious with few errors. Where the others say nothing, the share that is allowed takes their place,
in a binomial test.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

# With the glances below, a good canary is refused in fewer than one of a hundred roll-outs.
CHANCE = 0.007
# While it is watched, chance has its turn at each glance.
CHANCE_AT_A_GLANCE = 0.0003
# With fewer answers, and none of them an error, the others say nothing about how often errors occur.
ENOUGH = 20


def _choose(n: int, k: int) -> float:
    """The logarithm of n over k."""
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def chance_beside(errors: int, requests: int, other_errors: int, other_requests: int) -> float:
    """How likely so many of all these errors, or more, are among these requests, if all fail equally often."""
    both, total = errors + other_errors, _choose(requests + other_requests, errors + other_errors)
    found = [
        math.exp(_choose(requests, own) + _choose(other_requests, both - own) - total)
        for own in range(errors, min(both, requests) + 1)
    ]
    return sum(found) - found[0] / 2


def chance_alone(errors: int, requests: int, share: float) -> float:
    """How likely so many errors, or more, are among these requests, if this share of them fails."""
    if not errors or not 0 < share < 1:
        return 1.0 if not errors or share >= 1 else 0.0
    found = [
        math.exp(_choose(requests, own) + own * math.log(share) + (requests - own) * math.log1p(-share))
        for own in range(errors, requests + 1)
    ]
    return sum(found) - found[0] / 2


def worse(
    errors: int, requests: int, other_errors: int, other_requests: int, allowed: float, chance: float = CHANCE
) -> bool:
    """Whether the share of errors is above the others' by more than `allowed`, and that is hardly by chance."""
    if not requests:
        return False
    beside = other_errors / other_requests if other_requests else 0.0
    if errors / requests <= beside + allowed:
        return False
    if other_requests >= ENOUGH or other_errors:
        return chance_beside(errors, requests, other_errors, other_requests) < chance
    return chance_alone(errors, requests, allowed) < chance


@dataclass
class Glances:
    """Whether what is watched fails already: judged at `least` errors, and whenever they have doubled since."""

    least: int
    allowed: float

    def fail(self, errors: int, requests: int, other_errors: int, other_requests: int) -> bool:
        if errors < self.least:
            return False
        self.least = 2 * errors
        return worse(errors, requests, other_errors, other_requests, self.allowed, CHANCE_AT_A_GLANCE)

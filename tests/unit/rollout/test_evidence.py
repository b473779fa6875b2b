"""How often a roll-out is refused, by simulation: docs/decisions/0040."""

import math
import random

import pytest

from phoenix.balancer.access_log import EARLIER
from phoenix.rollout import evidence

ALLOWED = 0.01  # deploy_canary_error_share
LEAST = 5  # deploy_canary_errors


def failures(draw: random.Random, requests: int, share: float) -> int:
    """A draw from the binomial distribution: the gaps between errors are geometric."""
    found, at = -1, 0.0
    while at <= requests and share:
        found, at = found + 1, at + 1 + math.floor(math.log(1 - draw.random()) / math.log1p(-share))
    return max(0, found)


def refused(draw: random.Random, requests: int, others: int, own_share: float, other_share: float) -> bool:
    """A canary beside `others` instances, which get as many requests each: glanced at, and judged at the end."""
    own, before = 0, EARLIER * requests * others
    other = failures(draw, before, other_share)
    glances = evidence.Glances(LEAST, ALLOWED)
    for number in range(1, requests + 1):
        other += sum(draw.random() < other_share for _ in range(others))
        if draw.random() < own_share:
            own += 1
            if glances.fail(own, number, other, before + number * others):
                return True
    return evidence.worse(own, requests, other, before + requests * others, ALLOWED)


def share_refused(runs: int, requests: int, others: int, own_share: float, other_share: float) -> float:
    draw = random.Random(1)
    return sum(refused(draw, requests, others, own_share, other_share) for _ in range(runs)) / runs


@pytest.mark.parametrize("others", [1, 3])
@pytest.mark.parametrize("requests", [20, 100, 200, 1000])
def test_what_fails_as_often_as_the_others_is_hardly_ever_refused(requests: int, others: int) -> None:
    assert share_refused(1000, requests, others, 0.01, 0.01) < 0.01
    assert share_refused(600, requests, others, 0.05, 0.05) < 0.02


@pytest.mark.parametrize("others", [1, 3, 7])
def test_what_fails_ten_times_as_often_is_refused_after_200_requests(others: int) -> None:
    assert share_refused(600, 200, others, 0.1, 0.01) >= 0.99


def test_of_a_fleet_that_never_fails_everything_that_does_is_found() -> None:
    assert share_refused(300, 200, 1, 0.1, 0) == 1


def test_without_others_the_allowed_share_counts() -> None:
    assert not evidence.worse(0, 0, 0, 0, ALLOWED)
    assert not evidence.worse(1, 20, 0, 0, ALLOWED)
    assert evidence.worse(5, 5, 0, 0, ALLOWED)
    assert not evidence.worse(5, 5, 5, 5, ALLOWED)
    assert evidence.worse(1, 1000, 0, 0, 0)
    assert evidence.chance_alone(3, 3, 1) == 1

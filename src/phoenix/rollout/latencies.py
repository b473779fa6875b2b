"""How long answers take, beside those of other instances to such requests.

Instances get different requests: clients with affinity stay where they are, new ones come to a canary, and a long poll
takes seconds by design. So answers are counted by the kind of request, and an instance is compared with what the others
would have answered to the requests that it got (direct standardization).
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping
from urllib.parse import parse_qsl

from phoenix.rollout import evidence

# Latencies are counted in buckets, which can be added over load balancers. Bucket i ends at 1 ms * 1.25^i.
FIRST_BUCKET_S, GROWTH = 0.001, 1.25
# With fewer answers a quantile means nothing.
ENOUGH = 20
# With fewer, only answers that are hardly slow by chance count, and of those at least so many.
FEW = 5
# Of so many kinds answers are counted apart; those of any further ones are together.
KINDS = 200
REST = ""

Buckets = Mapping[int, float]


def bucket(seconds: float) -> int:
    """The bucket that an answer of so many seconds belongs to."""
    return max(0, math.ceil(math.log(max(seconds, FIRST_BUCKET_S) / FIRST_BUCKET_S, GROWTH) - 1e-9))


def end(index: int) -> float:
    """Where a bucket ends, in seconds."""
    return float(FIRST_BUCKET_S * GROWTH**index)


def kind(method: str, uri: str) -> str:
    """The kind of a request: method, path without what looks like an identifier, names of the query's parameters.

    As a digest: paths may be private, and the counts are shown.
    """
    path, _, query = uri.partition("?")
    parts = ["*" if re.search(r"\d", part) else part for part in path.split("/")]
    names = sorted({name for name, _ in parse_qsl(query, keep_blank_values=True)})
    return hashlib.sha256(repr((method, parts, names)).encode()).hexdigest()[:12]


def quantile(buckets: Buckets, share: float) -> float:
    """Upper end, in seconds, of the bucket that holds this share of the answers; 0 without any."""
    total = sum(buckets.values())
    left = share * total
    for index in sorted(buckets):
        left -= buckets[index]
        if left <= 1e-9 * total:
            return end(index)
    return 0.0


def pooled(kinds: Mapping[str, Buckets]) -> dict[int, float]:
    """The answers of all kinds together."""
    found: dict[int, float] = {}
    for buckets in kinds.values():
        for index, count in buckets.items():
            found[index] = found.get(index, 0) + count
    return found


def expected(own: Mapping[str, Buckets], others: Mapping[str, Buckets]) -> dict[int, float]:
    """How the others' answers to the requests of `own` would spread, as many as those are.

    For a kind of which they answered fewer than FEW, all that they answered stands.
    """
    every = pooled(others)
    found: dict[int, float] = {}
    for name, buckets in own.items():
        beside = others.get(name, {})
        if sum(beside.values()) < FEW:
            beside = every
        if total := sum(beside.values()):
            for index, count in beside.items():
                found[index] = found.get(index, 0) + sum(buckets.values()) * count / total
    return found


def slower(own: Mapping[str, Buckets], others: Mapping[str, Buckets], bound: float) -> bool:
    """Whether so few answers prove that it is slower: balancers send little to an instance whose requests stay open."""
    seen, beside = pooled(own), expected(own, others)
    count, other_count = (round(sum(one.values())) for one in (seen, pooled(others)))
    if min(count, other_count) < FEW:
        return False
    slow, other_share = (
        sum(counted for index, counted in one.items() if end(index) > bound) / total
        for one, total in ((seen, 1), (beside, sum(beside.values())))
    )
    other_slow = round(other_share * other_count)
    return evidence.chance_beside(round(slow), count, other_slow, other_count) < evidence.CHANCE

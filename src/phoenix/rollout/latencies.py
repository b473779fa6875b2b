"""How long answers take, beside those of other instances to such requests.

Instances get different requests: clients with affinity stay where they are, new ones come to a canary, and a long poll
takes seconds by design. So answers are counted by the kind of request, and each is compared with what the others took
for that kind. The others' answers are weighed by the kinds that the instance got (direct standardization).
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from phoenix.rollout import evidence

# Latencies are counted in buckets, which can be added over load balancers. Bucket i ends at 1 ms * 1.25^i.
FIRST_BUCKET_S, GROWTH = 0.001, 1.25
# With fewer answers a quantile means nothing.
ENOUGH = 20
# With fewer, no kind stands for itself, and not even a median is compared.
FEW = 5
# Of so many kinds answers are counted apart; those of any further ones are together.
KINDS = 60
REST = ""
# How much of a request's target counts. A client may send any.
LONGEST = 256
# Numbers, digests, UUIDs; not v2.
IDENTIFIER = re.compile(r"(?<=[/=&])(?:[0-9A-Fa-f-]*[0-9][0-9A-Fa-f-]*|(?=[^/=&]*[0-9])[^/=&]{16,})(?=[/=&]|$)")
VALUE = re.compile(r"=[^&]*")

Buckets = Mapping[int, float]


def bucket(seconds: float) -> int:
    """The bucket that an answer of so many seconds belongs to."""
    return max(0, math.ceil(math.log(max(seconds, FIRST_BUCKET_S) / FIRST_BUCKET_S, GROWTH) - 1e-9))


def end(index: int) -> float:
    """Where a bucket ends, in seconds."""
    return float(FIRST_BUCKET_S * GROWTH**index)


def kind(method: str, uri: str, status: int) -> str:
    """The kind of a request: method, path without identifiers, names of the query's parameters, class of the status.

    As a digest: paths may be private, and the counts are shown.
    """
    path, _, query = uri[:LONGEST].partition("?")
    names = sorted({IDENTIFIER.sub("*", f"&{name}") for name in VALUE.sub("", query).split("&")})
    text = repr((method, IDENTIFIER.sub("*", path), names, status // 100))
    return hashlib.sha256(text.encode(errors="replace")).hexdigest()[:12]


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


def _share(buckets: Buckets, bound: float) -> float:
    """The share of answers that took longer than `bound` seconds."""
    return sum(count for index, count in buckets.items() if end(index) > bound) / sum(buckets.values())


@dataclass(frozen=True)
class Comparison:
    """An instance's answers beside the others'. Where those are fewer than ENOUGH, `limit_s` is what they may take.

    Of a kind that the others answered fewer than FEW times, all that they answered stands.
    """

    own: Mapping[str, Buckets]
    others: Mapping[str, Buckets]
    factor: float
    allowance_s: float
    limit_s: float

    def pairs(self) -> Iterator[tuple[Buckets, Buckets]]:
        """The answers of each kind that it got, and those of the others to compare them with."""
        every = pooled(self.others)
        for name, buckets in self.own.items():
            if sum(buckets.values()):
                beside = self.others.get(name, {})
                yield buckets, beside if sum(beside.values()) >= FEW else every

    def fault(self, name: str, part: float) -> str:
        """What is wrong with this quantile; "" if nothing is, or if that may be chance."""
        total = sum(pooled(self.own).values())
        seen = quantile(pooled(self.own), part)
        if total < (FEW if part <= 0.5 else ENOUGH):
            return ""
        if sum(pooled(self.others).values()) < ENOUGH:
            if total < ENOUGH or seen <= self.limit_s:
                return ""
            return f"its {name} was {seen:.3f} s, above {self.limit_s:.3f} s (there are no others to compare with)"
        expected: dict[int, float] = {}
        over = other_over = spread = 0.0
        for buckets, beside in self.pairs():
            count, known = sum(buckets.values()), sum(beside.values())
            bound = quantile(beside, part) * self.factor + self.allowance_s
            over += _share(buckets, bound) * count
            other_over += _share(beside, bound) * count / total
            spread += (count / total) ** 2 / known
            for index, one in beside.items():
                expected[index] = expected.get(index, 0) + one * count / known
        # As many answers as the others' weighed ones are worth (Kish's effective sample size).
        worth = max(1, round(1 / spread))
        if over <= (1 - part) * total + 1e-9:
            return ""
        if evidence.chance_beside(round(over), round(total), round(other_over * worth), worth) >= evidence.CHANCE:
            return ""
        return (
            f"its {name} was {seen:.3f} s (the others', for such requests: {quantile(expected, part):.3f} s): "
            f"{over / total:.0%} of its answers took longer than {self.factor:g} times that and {self.allowance_s:g} s"
        )

"""Fingerprints of collections, and how they differ."""

from __future__ import annotations

from concurrent.futures import Executor, Future, ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

from phoenix.backup import fingerprint
from tests.unit.backup.builders import bson


def test_a_fingerprint_depends_on_content_and_not_on_order() -> None:
    def digest(*documents: bytes) -> tuple[int, str]:
        one = fingerprint.Digest()
        for batch in documents:
            one.feed(batch)
        return one.documents, one.hexdigest()

    first, second = bson(_id=1, a="x"), bson(_id=2, a="y")
    assert digest(first + second) == digest(second, first)
    assert digest(first + second)[0] == 2
    assert digest(first, first) != digest(first)
    assert digest(bson(_id=1, a="y"), bson(_id=2, a="x")) != digest(first, second)


def test_processes_give_the_same_fingerprint_as_one() -> None:
    documents = [bson(_id=number, text="x" * (number % 700)) for number in range(9000)]
    parts = [documents[:10], documents[10:4000], documents[4000:4010], documents[4010:8000], documents[8000:]]
    batches = [b"".join(part) for part in parts]
    assert sum(len(batch) >= fingerprint.LARGE for batch in batches) == 2
    alone, sizes = fingerprint.Digest(), list[int]()
    for batch in batches:
        alone.feed(batch)
    with ProcessPoolExecutor(2, get_context("spawn")) as processes:
        together = fingerprint.digest(batches, processes, 1, sizes.append, alone=0)
    assert (together.documents, together.bytes, together.hexdigest()) == (9000, alone.bytes, alone.hexdigest())
    assert sizes == [len(batch) for batch in batches]


class Counted(Executor):
    """Hashes at once, and counts what it is given."""

    given = 0

    def submit(self, call: Any, /, *arguments: Any, **more: Any) -> Future[Any]:
        self.given += 1
        done: Future[Any] = Future()
        done.set_result(call(*arguments, **more))
        return done


def test_no_process_is_started_for_what_is_hashed_sooner_here() -> None:
    batch = bson(_id=1, text="x" * fingerprint.LARGE)
    for bytes_alone, given in ((3 * len(batch), 0), (2 * len(batch), 1), (0, 3)):
        executor = Counted()
        found = fingerprint.digest([batch] * 3, executor, 1, lambda _: None, alone=bytes_alone)
        assert (found.documents, found.bytes, executor.given) == (3, 3 * len(batch), given)


def test_differences_are_reported() -> None:
    one = fingerprint.Collection(3, 300, "aa", ["_id_"])
    assert fingerprint.differences({"a.b": one}, {"a.b": one}) == []
    assert fingerprint.differences({"a.b": one}, {}) == ["a.b is missing"]
    assert fingerprint.differences({}, {"a.b": one}) == ["a.b is not in the manifest"]
    fewer = fingerprint.Collection(2, 200, "bb", ["_id_"])
    assert "2 documents instead of 3" in fingerprint.differences({"a.b": one}, {"a.b": fewer})[0]
    other = fingerprint.Collection(3, 300, "bb", ["_id_", "n_1"])
    assert len(fingerprint.differences({"a.b": one}, {"a.b": other})) == 2
    capped = fingerprint.Collection(None, None, None, ["_id_"])
    assert fingerprint.differences({"a.b": capped}, {"a.b": one}) == []
    assert fingerprint.from_json(fingerprint.to_json({"a.b": one})) == {"a.b": one}

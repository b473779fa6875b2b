"""The fleet's dumps while the tests have a repository of their own: tests/harness/remote/store_aside.py."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.harness.remote import store_aside

FLEET = {
    "dumps/20261124T010000Z-db2/manifest.json",
    "dumps/20261125T010000Z-db3/manifest.json",
    "failures/00000002.json",
}
# Changes of the disk by each.
CHANGES = {store_aside.away: 4, store_aside.back: 7}


def make(root: Path, files: set[str]) -> None:
    for file in files:
        path = root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(file)


def contents(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made = tmp_path / "repository"
    make(made, FLEET)
    return made


def test_the_repository_is_empty_meanwhile_and_as_it_was_afterwards(root: Path) -> None:
    store_aside.away(root)
    assert contents(root) == set()
    make(root, {"dumps/20261125T120000Z-db1/manifest.json", "failures/00000001.json"})
    for _ in range(2):
        store_aside.back(root)
        assert contents(root) == FLEET
    assert [path.name for path in root.parent.iterdir()] == ["repository"]


def test_an_interrupted_run_is_cleaned_up_by_the_next(root: Path) -> None:
    store_aside.away(root)
    make(root, {"dumps/20261125T120000Z-db1/manifest.json"})
    store_aside.away(root)
    assert contents(root) == set()
    store_aside.back(root)
    assert contents(root) == FLEET


class Killed(Exception):
    pass


@pytest.mark.parametrize(("verb", "step"), [(verb, step) for verb, most in CHANGES.items() for step in range(most)])
def test_nothing_is_lost_wherever_it_is_interrupted(
    root: Path, verb: Callable[[Path], None], step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if verb is store_aside.back:
        store_aside.away(root)
        make(root, {"dumps/20261125T120000Z-db1/manifest.json", "failures/00000001.json"})
    count = itertools.count()

    def breaking(real: Callable[..., object]) -> Callable[..., object]:
        def change(*arguments: object, **options: object) -> object:
            if next(count) == step:
                raise Killed
            return real(*arguments, **options)

        return change

    with monkeypatch.context() as patched, pytest.raises(Killed):
        for owner, name in ((shutil, "move"), (shutil, "rmtree"), (Path, "rename"), (Path, "unlink")):
            patched.setattr(owner, name, breaking(getattr(owner, name)))
        verb(root)
    store_aside.back(root)
    assert contents(root) == FLEET

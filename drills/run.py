"""A drill from its preparation to its clean-up, and what came of it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from drills.model import Drill, Outcome, Scene
from phoenix import __version__
from tests.harness import load, writes
from tests.harness.hosts import first_of
from tests.harness.pair import PATIENT

LONGEST_S = 3600


@contextmanager
def noted(errors: list[str], what: str = "") -> Iterator[None]:
    """Note an error in place of raising it: whatever it was is the outcome."""
    try:
        yield
    except Exception as failure:  # noqa: BLE001
        errors.append(f"{what}{type(failure).__name__}: {failure}")


def play(drill: Drill, scene: Scene) -> Outcome:
    """Play a drill from its preparation to its clean-up."""
    measured: dict[str, float] = {}
    reads: dict[str, object] = {}
    written: dict[str, object] = {}
    errors, seconds, equal = list[str](), 0.0, False
    try:
        with noted(errors):
            drill.prepare(scene)
            options = PATIENT if drill.moved else ()
            client = first_of("client", scene.inventory)
            with (
                writes.writes(scene.inventory, scene.first(drill.writer), rotated=drill.rotated) as written,
                load.load(client, scene.url, load.RATE, *options, longest=LONGEST_S) as reads,
            ):
                began = time.monotonic()
                # Noted here: an error of the loads, which end now, would take its place.
                with noted(errors):
                    measured = drill.act(scene)
                seconds = time.monotonic() - began
    finally:
        with noted(errors, "clean-up: "):
            drill.clean(scene)
    with noted(errors):
        equal = writes.data_equal(scene.inventory)
    run = f"{time.strftime('%Y-%m-%d')}, {__version__}, {Path(scene.inventory).name}"
    if scene.cuts:
        run += f"; killed once: {', '.join(scene.cuts.made)}"
        scene.cuts.made.clear()
    return Outcome(
        drill.name, drill.sections, round(seconds, 1), measured, reads, written, equal, "; ".join(errors), run
    )

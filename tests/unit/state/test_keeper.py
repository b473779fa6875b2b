"""The process that keeps the fleet's lock while its play lives."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from phoenix.state import keeper, lock
from tests.harness.waiting import wait_for
from tests.unit.shared import TOP


@pytest.fixture
def play() -> Iterator[subprocess.Popen[bytes]]:
    running = subprocess.Popen(["sleep", "60"])
    yield running
    running.kill()
    running.wait()


@pytest.fixture(autouse=True)
def handler() -> Iterator[None]:
    """What keep() does about SIGTERM is for a process of its own."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def commands(folder: Path, token: str) -> keeper.Run:
    def run(verb: str, *words: str) -> int:
        return lock.main(["--folder", str(folder), verb, "--token", token, *words])

    return run


def test_renewed_again_and_again_while_the_play_lives_and_released_when_it_is_killed(
    tmp_path: Path, play: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper, "POLL_SECONDS", 0.02)
    monkeypatch.setattr(keeper, "RENEWALS", 1000)
    token, _ = lock.acquire(tmp_path, "ann", "deploy", 60)
    first = lock.holder(tmp_path)
    assert first
    renewed: list[float] = []

    def later() -> None:
        while len(renewed) < 3 and play.poll() is None:
            held = lock.holder(tmp_path)
            if held and held.expires > max([first.expires, *renewed]):
                renewed.append(held.expires)
            time.sleep(0.01)
        play.kill()

    thread = threading.Thread(target=later)
    thread.start()
    keeper.keep(keeper.Play.of(play.pid), 60, commands(tmp_path, token))
    thread.join()
    assert len(renewed) == 3
    assert lock.holder(tmp_path) is None


def test_a_play_that_has_ended_and_is_not_waited_for_does_not_live(play: subprocess.Popen[bytes]) -> None:
    found = keeper.Play.of(play.pid)
    assert found.lives()
    play.kill()
    while Path(f"/proc/{play.pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
        time.sleep(0.01)
    assert not found.lives()


def test_another_process_of_the_same_number_is_not_the_play() -> None:
    found = keeper.Play.of(os.getpid())
    assert found.lives()
    assert not keeper.Play(found.pid, "1").lives()
    assert not keeper.Play(2**22 + 1, "").lives()


def test_the_lock_of_the_next_holder_is_left_alone(tmp_path: Path) -> None:
    """Broken by hand, then taken by another: the keeper ends, though its play lives."""
    token, _ = lock.acquire(tmp_path, "ann", "deploy", 0.6)
    lock.release(tmp_path, token)
    other, _ = lock.acquire(tmp_path, "bob", "scale", 60)
    keeper.keep(keeper.Play.of(os.getpid()), 0.6, commands(tmp_path, token))
    assert lock.renew(tmp_path, other, 60)


def test_control_may_be_out_of_reach_for_a_while(play: subprocess.Popen[bytes]) -> None:
    asked: list[str] = []

    def run(verb: str, *words: str) -> int:
        asked.append(verb)
        if len(asked) == 3:
            play.kill()
            play.wait()
        raise ConnectionError

    keeper.keep(keeper.Play.of(play.pid), 0.1, run)
    assert asked[:3] == ["renew"] * 3
    assert asked[-1] == "release"


def test_asked_to_end_it_releases_the_lock() -> None:
    """Such as when the unit is stopped that ran the play."""
    program = (
        "import os\nfrom phoenix.state import keeper\n"
        "keeper.keep(keeper.Play.of(os.getppid()), 60, lambda *words: print(*words, flush=True) or 0)"
    )
    environment = {**os.environ, "PYTHONPATH": str(TOP / "src")}
    running = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, env=environment)
    wait_for(lambda: _catches(running.pid, signal.SIGTERM), 30, "the keeper runs")
    running.terminate()
    assert running.communicate(timeout=10)[0] == "release\n"


def _catches(pid: int, number: signal.Signals) -> bool:
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("SigCgt"))
    return bool(int(line.split()[1], 16) >> (number - 1) & 1)

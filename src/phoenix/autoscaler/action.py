"""Actions on the fleet: one at a time, with a time-out, and with a growing pause after failures."""

import asyncio
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from phoenix.autoscaler.config import Action
from phoenix.common import play

log = logging.getLogger(__name__)
NOT_TAKEN = "did not take the pools"  # a load balancer, which may still use the former ones


@dataclass(frozen=True)
class Result:
    """How an action ended. `left_out`: hosts that were left out, with the reasons; the others were scaled."""

    good: bool
    text: str
    seconds: float = 0.0
    left_out: dict[str, str] = field(default_factory=dict)


class Target(Protocol):
    """What is scaled. Both calls block until the action has ended, at the latest after `timeout` seconds."""

    def scale_to(self, count: int, timeout: float) -> Result: ...

    def recount(self, timeout: float) -> Result:
        """Record the capacity again from the instances that run."""


class DryRun:
    """Logs what would be done."""

    def scale_to(self, count: int, timeout: float) -> Result:
        log.info("dry run: nothing is changed", extra={"capacity": count})
        return Result(True, "dry run")

    def recount(self, timeout: float) -> Result:
        log.info("dry run: the capacity is not recounted")
        return Result(True, "dry run")


class Playbooks:
    """scale.yml and recount.yml through ansible-runner, with Ansible, project and inventory of the role `runner`."""

    def __init__(self, settings: Action, folder: Path) -> None:
        self._settings, self._folder = settings, folder

    def scale_to(self, count: int, timeout: float) -> Result:
        # The lease outlasts the run, so that the lock is never lost to another play in the middle of it.
        variables = {"phoenix_capacity": str(count), "scale_lock_lease": str(int(timeout) + 15)}
        return self.run("scale", variables, timeout)

    def recount(self, timeout: float) -> Result:
        return self.run("recount", {}, timeout)

    def run(self, playbook: str, variables: dict[str, str], timeout: float) -> Result:
        """Run one of the project's playbooks; scale.yml is good once it has recorded the capacity."""
        import ansible_runner  # noqa: PLC0415 - needed only where there is a fleet

        seen: dict[str, Any] = {"errors": [], "reports": {}}

        def handle(event: dict[str, Any]) -> bool:
            _note(event, seen)
            return False  # keep it neither in memory nor on disk

        settings = self._settings
        try:
            run = ansible_runner.run(
                private_data_dir=str(self._folder),
                # The folder behind the link, which a newer project is put beside while the play runs.
                project_dir=str(settings.project.resolve()),
                inventory=str(settings.inventory),
                playbook=f"playbooks/{playbook}.yml",
                extravars={name: str(value) for name, value in variables.items()},
                envvars=play.environment(str(settings.ansible), settings.name),
                settings={"job_timeout": int(timeout), "suppress_ansible_output": True},
                event_handler=handle,
                quiet=True,
                rotate_artifacts=10,
            )
        except Exception as error:  # noqa: BLE001 - whatever happens here, the daemon continues
            return Result(False, f"{playbook}.yml could not be run: {error}")
        if run.status == "timeout" or run.rc == 254:
            return Result(False, f"{playbook}.yml was stopped after {timeout:g} s")
        report = seen["reports"].get(f"phoenix_{playbook}", {})
        left_out = {host: str(report.get("reasons", {}).get(host, "failed")) for host in report.get("left_out", [])}
        left_out |= dict.fromkeys(report.get("balancers_left_out", []), NOT_TAKEN)
        if not report.get("recorded", playbook != "scale" and run.rc == 0):
            return Result(False, "; ".join(seen["errors"]) or f"{playbook}.yml ended with status {run.rc}")
        return Result(True, "done", left_out=left_out)  # with an error, too, when a host was left out


def _note(event: dict[str, Any], seen: dict[str, Any]) -> None:
    """Keep what says how a run ended: what its play reports by set_stats, and what failed."""
    data = event.get("event_data", {})
    result = data.get("res") or {}
    if event.get("event") == "playbook_on_stats":
        seen["reports"] = data.get("artifact_data") or {}
    elif event.get("event") in ("runner_on_failed", "runner_on_unreachable") and not data.get("ignore_errors"):
        why = str(result.get("stderr") or result.get("msg") or "failed").strip()
        seen["errors"].append(f"{data.get('host')}: {data.get('task')}: {why}"[:500])


class Actions:
    """Actions in the background: never two at once, and after a failure only after a pause, which doubles each time."""

    def __init__(self, target: Target, settings: Action, clock: Callable[[], float]) -> None:
        self.target, self.settings, self._clock = target, settings, clock
        self.task: asyncio.Task[Result] | None = None
        self.pending: int | None = None  # the capacity that the running action will result in
        self.failures = 0  # in a row
        self.not_before = float("-inf")
        self.started = self.failed = 0
        self.last: Result | None = None

    def ready(self) -> bool:
        return self.task is None and self._clock() >= self.not_before

    def scale_to(self, count: int) -> None:
        """Scale the target. Only when ready."""
        self._start(f"scale to {count}", partial(self.target.scale_to, count), count)

    def recount(self) -> None:
        """Have the target record its capacity again. Only when ready."""
        self._start("recount", self.target.recount)

    def _start(self, what: str, act: Callable[[float], Result], pending: int | None = None) -> None:
        if self.task is not None:
            raise RuntimeError("an action is running")
        self.pending = pending
        self.started += 1
        log.info("action started", extra={"action": what})
        self.task = asyncio.create_task(self._timed(act))

    async def _timed(self, act: Callable[[float], Result]) -> Result:
        began = self._clock()
        result = await asyncio.to_thread(act, self.settings.timeout_seconds)
        return replace(result, seconds=round(self._clock() - began, 2))

    def reap(self) -> Result | None:
        """The result of an action that has ended since the last call."""
        if self.task is None or not self.task.done():
            return None
        error = None if self.task.cancelled() else self.task.exception()
        result = Result(False, f"failed: {error}") if error or self.task.cancelled() else self.task.result()
        self.task, self.pending, self.last = None, None, result
        if result.good and not result.left_out:
            self.failures, self.not_before = 0, float("-inf")
        elif not result.good:
            self.failed += 1
            pause = min(self.settings.retry_seconds * 2**self.failures, self.settings.retry_most_seconds)
            self.failures = min(self.failures + 1, 32)
            self.not_before = self._clock() + pause
        log.log(
            logging.INFO if result.good else logging.ERROR,
            "action ended",
            extra={"good": result.good, "text": result.text, "seconds": result.seconds, "left_out": result.left_out},
        )
        return result


def private_folder(path: Path) -> Path:
    """The folder for ansible-runner's own files."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.chmod(path, 0o700)  # noqa: PTH101
    return path

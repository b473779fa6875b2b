"""Runs the plays that scale: one at a time, with a time-out, tried again later and later after failures."""

import asyncio
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from phoenix.autoscaler.config import Action

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Result:
    """How a run ended. `left_out`: hosts that were left out, with the reasons; the others were scaled."""

    good: bool
    text: str
    seconds: float = 0.0
    left_out: dict[str, str] = field(default_factory=dict)


class Runner(Protocol):
    """Runs one playbook to its end; never raises."""

    def __call__(self, playbook: str, variables: dict[str, str], timeout: float) -> Result: ...


class DryRunner:
    """Says what would be run."""

    def __call__(self, playbook: str, variables: dict[str, str], timeout: float) -> Result:
        log.info("dry run: nothing is changed", extra={"playbook": playbook, **variables})
        return Result(True, "dry run")


class AnsibleRunner:
    """Through ansible-runner, with the Ansible, project and inventory of the role `runner`."""

    def __init__(self, settings: Action, folder: Path) -> None:
        self._settings, self._folder = settings, folder

    def __call__(self, playbook: str, variables: dict[str, str], timeout: float) -> Result:
        import ansible_runner  # noqa: PLC0415 - needed only where there is a fleet

        seen: dict[str, Any] = {"errors": [], "reports": {}}

        def handle(event: dict[str, Any]) -> bool:
            _note(event, seen)
            return False  # not to be kept in memory or on disk

        settings = self._settings
        try:
            run = ansible_runner.run(
                private_data_dir=str(self._folder),
                project_dir=str(settings.project),
                inventory=str(settings.inventory),
                playbook=f"playbooks/{playbook}.yml",
                extravars={name: str(value) for name, value in variables.items()},
                envvars={
                    "PATH": f"{settings.ansible}:/usr/bin:/bin",
                    "ANSIBLE_SSH_ARGS": "-o ControlMaster=auto -o ControlPersist=3600s -o ServerAliveInterval=15",
                    "USER": "phoenix-autoscaler",
                },
                settings={"job_timeout": int(timeout), "suppress_ansible_output": True},
                event_handler=handle,
                quiet=True,
                rotate_artifacts=10,
            )
        except Exception as error:  # noqa: BLE001 - whatever happens here, the daemon goes on
            return Result(False, f"{playbook}.yml could not be run: {error}")
        if run.status == "timeout" or run.rc == 254:
            return Result(False, f"{playbook}.yml was stopped after {timeout:g} s")
        report = seen["reports"].get(f"phoenix_{playbook}", {})
        left_out = {host: str(report.get("reasons", {}).get(host, "failed")) for host in report.get("left_out", [])}
        left_out |= dict.fromkeys(report.get("balancers_left_out", []), "did not take the pools")
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
    """Never two at once; after a failure not before a pause, which doubles."""

    def __init__(self, runner: Runner, settings: Action, clock: Callable[[], float]) -> None:
        self.runner, self.settings, self._clock = runner, settings, clock
        self.task: asyncio.Task[Result] | None = None
        self.pending: int | None = None
        self.failures = 0  # in a row
        self.not_before = float("-inf")
        self.started = self.failed = 0
        self.last: Result | None = None

    def ready(self) -> bool:
        return self.task is None and self._clock() >= self.not_before

    def start(self, playbook: str, variables: dict[str, str], pending: int | None = None) -> None:
        """Run a playbook beside the loop. Only when ready."""
        if self.task is not None:
            raise RuntimeError("an action is running")
        self.pending = pending
        self.started += 1
        self.task = asyncio.create_task(self._run(playbook, variables))

    async def _run(self, playbook: str, variables: dict[str, str]) -> Result:
        began = self._clock()
        limit = self.settings.timeout_seconds
        log.info("action begins", extra={"playbook": playbook, **variables})
        result = await asyncio.to_thread(self.runner, playbook, variables, limit)
        return Result(result.good, result.text, round(self._clock() - began, 2), result.left_out)

    def reap(self) -> Result | None:
        """The result of an action that has ended since, once."""
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
    """The folder in which ansible-runner keeps its own."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.chmod(path, 0o700)  # noqa: PTH101
    return path

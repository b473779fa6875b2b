"""A push and its run: none is lost, each has a result, a failure reaches the alarms, lint judges the server's files."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest

from phoenix.common import prometheus
from phoenix.pipeline import cli, outcome
from tests.unit.shared import TOP

FILES = TOP / "roles" / "ci" / "files"
# Stands for phoenix-stage: what it does is in the file `do` of the commit.
STAGE = "#!/bin/sh\nmkdir -p reports && echo '{\"lint\": {}}' >reports/stages.json && . ./do\n"


class Pipeline:
    """phoenix-pipeline in a folder of its own."""

    def __init__(self, top: Path) -> None:
        self.top = top
        for name in ("queue", "runs", "bin", "source"):
            (top / name).mkdir()
        (top / "bin" / "phoenix-stage").write_text(STAGE)
        (top / "bin" / "phoenix-stage").chmod(0o755)
        self.git("init", "--quiet")

    def git(self, *words: str) -> str:
        command = ["git", "-C", str(self.top / "source"), "-c", "user.name=x", "-c", "user.email=x@example.org", *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def push(self, do: str) -> str:
        """Commit, and note it in the queue as the repository's hook does."""
        (self.top / "source" / "do").write_text(do)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message=x")
        if not (self.top / "application.git").exists():
            (self.top / "application.git").symlink_to(self.top / "source" / ".git")
        commit = self.git("rev-parse", "HEAD")
        (self.top / "queue" / commit).touch()
        os.utime(self.top / "queue" / commit, ns=(time.time_ns(), time.time_ns()))
        return commit

    def call(self, verb: str) -> int:
        path = f"{self.top}/bin:{os.environ['PATH']}"
        environment = {**os.environ, "PHOENIX_CI": str(self.top), "PATH": path}
        return subprocess.run([str(FILES / "phoenix-pipeline"), verb], env=environment, check=False).returncode

    def result(self, commit: str) -> str:
        file = self.top / "runs" / commit / "result"
        return file.read_text().strip() if file.exists() else ""

    def waiting(self) -> list[str]:
        return sorted(path.name for path in (self.top / "queue").iterdir())


@pytest.fixture
def pipeline(tmp_path: Path) -> Pipeline:
    return Pipeline(tmp_path)


def test_a_good_run_has_its_result_and_leaves_the_queue(pipeline: Pipeline) -> None:
    commit = pipeline.push("exit 0")
    assert pipeline.call("run") == 0
    assert pipeline.call("finish") == 0
    assert pipeline.result(commit) == "good"
    assert pipeline.waiting() == []
    assert pipeline.call("run") == 75
    assert pipeline.call("finish") == 0


@pytest.mark.parametrize("do", ["exit 3", "rm reports/stages.json; exit 3", "rm -rf ../workspace/reports; exit 1"])
def test_a_run_that_fails_has_one_as_well(pipeline: Pipeline, do: str) -> None:
    commit = pipeline.push(do)
    assert pipeline.call("run") == 1
    assert pipeline.call("finish") == 0
    assert pipeline.result(commit) == "failed"
    assert (pipeline.top / "runs" / commit / "stages.json").exists()
    assert pipeline.waiting() == []


def test_a_run_that_is_killed_has_one_too(pipeline: Pipeline) -> None:
    commit = pipeline.push("kill -KILL $PPID; sleep 0.1")
    assert pipeline.call("run") == -9
    assert pipeline.waiting() == [commit], "a power cut here would lose it"
    assert pipeline.call("finish") == 0
    assert (pipeline.result(commit), pipeline.waiting()) == ("failed", [])


def test_a_commit_that_is_not_there_fails(pipeline: Pipeline) -> None:
    (pipeline.top / "queue" / pipeline.push("exit 0")).unlink()
    missing = "0" * 40
    (pipeline.top / "queue" / missing).touch()
    assert pipeline.call("run") == 1
    pipeline.call("finish")
    assert pipeline.result(missing) == "failed"


def test_the_newest_push_runs_and_older_ones_say_so(pipeline: Pipeline) -> None:
    older, newer = pipeline.push("exit 1"), pipeline.push("exit 0")
    assert pipeline.call("run") == 0
    pipeline.call("finish")
    assert (pipeline.result(older), pipeline.result(newer)) == ("superseded", "good")


def test_a_push_during_a_run_waits_for_the_next(pipeline: Pipeline) -> None:
    later = "1" * 40
    commit = pipeline.push(f"touch ../queue/{later}")
    assert pipeline.call("run") == 0
    pipeline.call("finish")
    assert pipeline.result(commit) == "good"
    assert pipeline.waiting() == [later]


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"SERVICE_RESULT": "success", "EXIT_STATUS": "0"}, 0),
        ({"SERVICE_RESULT": "success", "EXIT_STATUS": "1"}, 1),
        ({"SERVICE_RESULT": "oom-kill", "EXIT_STATUS": "KILL"}, 1),
        ({"SERVICE_RESULT": "timeout", "EXIT_STATUS": "0"}, 1),
        ({}, 1),
    ],
)
def test_the_alarms_learn_how_it_ended(
    environment: dict[str, str], expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outcome, "METRICS", tmp_path / "metrics" / "pipeline.prom")
    for name in ("SERVICE_RESULT", "EXIT_STATUS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    def gauge(name: str) -> float:
        return prometheus.read(outcome.METRICS.read_text())[f"phoenix_pipeline_{name}"]

    assert cli.main(["begun"]) == 0
    assert gauge("running") == 1
    assert cli.main(["ended"]) == 0
    assert (gauge("running"), gauge("last_result")) == (0, expected)
    # A start without a push changes nothing about how the last run went.
    assert cli.main(["begun"]) == 0
    assert (gauge("running"), gauge("last_result")) == (1, expected)
    monkeypatch.setenv("EXIT_STATUS", outcome.IDLE)
    assert cli.main(["ended"]) == 0
    assert (gauge("running"), gauge("last_result")) == (0, expected)


def test_the_alarms_learn_the_result_of_a_run_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outcome, "METRICS", tmp_path / "pipeline.prom")
    for result, expected in (("failed", 1), ("good", 0)):
        assert cli.main(["result", result]) == 0
        assert prometheus.read(outcome.METRICS.read_text())["phoenix_pipeline_last_result"] == expected
    assert cli.main(["result", "perfect"]) == 64


def lint(folder: Path, files: dict[str, str]) -> subprocess.CompletedProcess[str]:
    for name, text in {"package.json": "{}", **files}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    for words in (["init", "--quiet"], ["add", "--all", "--force"]):
        subprocess.run(["git", "-C", str(folder), *words], check=True)
    return subprocess.run(["node", str(FILES / "lint.js")], cwd=folder, capture_output=True, text=True, check=False)


BROKEN = "const = 1;\n"


@pytest.mark.parametrize(
    "files",
    [
        {"public/client.js": "import x from './x.js';\nexport default x;\n", "public/x.js": BROKEN},
        {"web/static/page.js": BROKEN},
        {"src/view.js": "import React from 'react';\nconst view = <p/>;\n"},
        {"lib/a.mjs": "export default 1;\n"},
        {"esm/package.json": '{"type": "module"}', "esm/deep/a.js": "await 1;\n"},
        {".eslintignore": "/odd/**\n", "odd/a.js": BROKEN},
        {"package.json": '{"eslintIgnore": ["odd/*.js"]}', "odd/a.js": BROKEN},
        {"server.js": "#!/usr/bin/env node\nreturn;\n"},
    ],
)
def test_files_that_the_server_does_not_load_are_not_judged(tmp_path: Path, files: dict[str, str]) -> None:
    done = lint(tmp_path, files)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["server.js", "lib/deep/a.js", "publications/a.js"])
def test_a_file_of_the_server_that_does_not_parse_fails(tmp_path: Path, name: str) -> None:
    done = lint(tmp_path, {"good.js": "1;\n", name: BROKEN, ".eslintignore": "other\n"})
    assert done.returncode == 1
    assert name in done.stderr
    assert "2 files parsed" in done.stdout

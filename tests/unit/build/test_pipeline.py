"""A push and its run: none is lost, each has a result, a failure reaches the alarms, lint judges the server's files."""

from __future__ import annotations

import json
import os
import pwd
import subprocess
import threading
from pathlib import Path

import pytest

from phoenix.common import prometheus
from phoenix.pipeline import cli, deliver, outcome, push, runs
from tests.harness.waiting import wait_for
from tests.unit.shared import TOP, rendered

FILES = TOP / "roles" / "ci" / "files"
POST_RECEIVE = TOP / "roles" / "ci" / "templates" / "post-receive.j2"
# Stands for phoenix-stage: the checks do what is in the file `do` of the commit; the delivery asks for it.
STAGE = """#!/bin/sh
mkdir -p reports
echo "{\\"$1\\": {}}" >reports/stages.json
case $1 in
    check) . ./do ;;
    deliver) git archive "$PHOENIX_COMMIT" do | tar -x --to-stdout | grep -v '^exit 4$' ;;
esac
"""


class Pipeline:
    """The real programs and a real repository with the real hook, in a folder and as the user of the test."""

    def __init__(self, top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.top = top
        for name in ("queue", "runs", "bin", "source"):
            (top / name).mkdir()
        (top / "bin" / "phoenix-stage").write_text(STAGE)
        (top / "bin" / "phoenix-stage").chmod(0o755)
        self.git("init", "--quiet", "--initial-branch=main")
        self.git("init", "--quiet", "--bare", "--initial-branch=main", str(top / "application.git"))
        hook = top / "application.git" / "hooks" / "post-receive"
        hook.write_text(rendered(POST_RECEIVE).replace("/var/lib/phoenix-ci", str(top)))
        hook.chmod(0o755)
        monkeypatch.setattr(deliver, "TOP", top)
        monkeypatch.setattr(deliver, "WORK", top / "deliver")
        monkeypatch.setattr(deliver, "STAGE", str(top / "bin" / "phoenix-stage"))
        me = pwd.getpwuid(os.getuid()).pw_name
        for name in ("USER", "CHECKS"):
            monkeypatch.setattr(deliver, name, me)
        if os.getuid():
            monkeypatch.setattr(deliver, "as_user", lambda account: {})

    def git(self, *words: str) -> str:
        command = ["git", "-C", str(self.top / "source"), "-c", "user.name=x", "-c", "user.email=x@example.org", *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def push(self, do: str) -> str:
        (self.top / "source" / "do").write_text(do + "\n")
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message=x")
        self.git("push", "--quiet", str(self.top / "application.git"), "main")
        return self.git("rev-parse", "HEAD")

    def environment(self) -> dict[str, str]:
        return {**os.environ, "PHOENIX_CI": str(self.top), "PATH": f"{self.top}/bin:{os.environ['PATH']}"}

    def call(self, verb: str, **more: str) -> int:
        environment = {**self.environment(), **more}
        return subprocess.run([str(FILES / "phoenix-pipeline"), verb], env=environment, check=False).returncode

    def start(self) -> int:
        """One start of phoenix-ci.service, as systemd goes through its commands; the exit status of the last one."""
        status = self.call("run")
        # Of a process that was killed, nothing follows but the last command.
        killed = status not in (0, 1, 75)
        if not killed:
            status = deliver.main()
        how = {"SERVICE_RESULT": "signal" if killed else "success", "EXIT_STATUS": "KILL" if killed else str(status)}
        assert self.call("finish", **how) == 0
        return status

    def result(self, commit: str) -> str:
        file = self.top / "runs" / commit / "result"
        return file.read_text().strip() if file.exists() else ""

    def waiting(self) -> list[str]:
        return sorted(path.name for path in (self.top / "queue").iterdir())


@pytest.fixture
def pipeline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pipeline:
    return Pipeline(tmp_path, monkeypatch)


def test_a_good_run_has_its_result_and_leaves_the_queue(pipeline: Pipeline) -> None:
    commit = pipeline.push("exit 0")
    assert pipeline.start() == 0
    assert pipeline.result(commit) == "good"
    assert json.loads((pipeline.top / "runs" / commit / "stages.json").read_text()) == {"check": {}, "deliver": {}}
    assert pipeline.waiting() == []
    assert pipeline.start() == 75
    assert pipeline.result(commit) == "good"


@pytest.mark.parametrize("do", ["exit 3", "rm reports/stages.json; exit 3", "rm -rf ../workspace/reports; exit 1"])
def test_a_run_that_fails_has_one_as_well(pipeline: Pipeline, do: str) -> None:
    pipeline.push("exit 0")
    assert pipeline.start() == 0
    commit = pipeline.push(do)
    assert pipeline.start() == 1
    assert pipeline.result(commit) == "failed"
    stages = json.loads((pipeline.top / "runs" / commit / "stages.json").read_text())
    assert "deliver" not in stages, "of the run before"
    assert pipeline.waiting() == []


def test_a_delivery_that_fails_is_a_failed_run(pipeline: Pipeline) -> None:
    (pipeline.top / "bin" / "phoenix-stage").write_text(STAGE.replace(". ./do", "true"))
    commit = pipeline.push("exit 4")
    assert pipeline.start() == 1
    assert pipeline.result(commit) == "failed"
    assert set(json.loads((pipeline.top / "runs" / commit / "stages.json").read_text())) == {"check", "deliver"}


def test_a_run_that_is_killed_has_one_too(pipeline: Pipeline) -> None:
    commit = pipeline.push("kill -KILL $PPID; sleep 0.1")
    assert pipeline.call("run") == -9
    assert pipeline.waiting() == [commit], "a power cut here would lose it"
    assert pipeline.call("finish", SERVICE_RESULT="signal", EXIT_STATUS="KILL") == 0
    assert (pipeline.result(commit), pipeline.waiting()) == ("failed", [])


def test_a_commit_that_is_not_there_fails(pipeline: Pipeline) -> None:
    (pipeline.top / "queue" / pipeline.push("exit 0")).unlink()
    missing = "0" * 40
    (pipeline.top / "queue" / missing).touch()
    assert pipeline.start() == 1
    assert pipeline.result(missing) == "failed"


def test_of_three_pushes_in_a_minute_each_is_run_or_superseded(pipeline: Pipeline) -> None:
    """As by phoenix-ci.path, the service is started as long as something waits; two pushes come during a run."""
    slow = "until [ -e ../go ]; do sleep 0.05; done"
    commits = [pipeline.push(slow)]
    ended = []

    def serve() -> None:
        while pipeline.waiting():
            ended.append(pipeline.start())

    service = threading.Thread(target=serve)
    service.start()
    wait_for((pipeline.top / "runs" / ".running").exists, 20, "the first run")
    commits += [pipeline.push("exit 0 # second"), pipeline.push("exit 0 # third")]
    assert pipeline.waiting() == sorted(commits)
    (pipeline.top / "go").touch()
    service.join()
    assert [pipeline.result(commit) for commit in commits] == ["good", "superseded", "good"]
    assert (pipeline.waiting(), ended) == ([], [0, 0])


def test_pushes_at_any_moment_are_all_run_or_superseded(pipeline: Pipeline) -> None:
    """Twelve pushes without a pause, while runs go on."""
    commits: list[str] = []
    pushing = threading.Thread(target=lambda: commits.extend(pipeline.push(f"exit 0 # {n}") for n in range(12)))
    pushing.start()
    while pushing.is_alive() or pipeline.waiting():
        if pipeline.waiting():
            pipeline.start()
    results = [pipeline.result(commit) for commit in commits]
    assert set(results) <= {"good", "superseded"}
    assert results[-1] == "good"


def test_a_push_during_a_run_waits_for_the_next(pipeline: Pipeline) -> None:
    later = "1" * 40
    commit = pipeline.push(f"touch ../queue/{later}")
    assert pipeline.start() == 0
    assert pipeline.result(commit) == "good"
    assert pipeline.waiting() == [later]


def test_a_branch_that_is_put_back_during_a_run_ends_there(pipeline: Pipeline) -> None:
    """What was pushed in between by mistake is not delivered after all."""
    slow = "until [ -e ../go ]; do sleep 0.05; done"
    good = pipeline.push(slow)
    run = threading.Thread(target=pipeline.start)
    run.start()
    wait_for((pipeline.top / "runs" / ".running").exists, 20, "the first run")
    mistake = pipeline.push("exit 0")
    pipeline.git("push", "--quiet", "--force", str(pipeline.top / "application.git"), f"{good}:main")
    (pipeline.top / "go").touch()
    run.join()
    while pipeline.waiting():
        pipeline.start()
    assert (pipeline.result(good), pipeline.result(mistake)) == ("good", "superseded")


def test_what_no_push_put_into_the_queue_does_not_keep_the_host_busy(pipeline: Pipeline) -> None:
    """The checks may write there. Whatever stays, phoenix-ci.path takes for the next push as soon as a run ends."""
    slept = pipeline.top / "slept"
    (pipeline.top / "bin" / "sleep").write_text(f'#!/bin/sh\necho "$1" >>{slept}\n')
    (pipeline.top / "bin" / "sleep").chmod(0o755)
    commit = pipeline.push("mkdir ../queue/x ../queue/x/y; touch ../queue/.z")
    assert pipeline.start() == 0
    assert pipeline.start() != 0
    assert (pipeline.result(commit), pipeline.waiting()) == ("good", [".z"])
    assert not slept.exists()
    assert pipeline.start() == 75
    assert slept.exists()


def test_what_is_delivered_is_what_was_pushed(pipeline: Pipeline) -> None:
    """Not what the checks made of their checkout, nor what they left in it."""
    commit = pipeline.push("echo exit 4 >do; git -c user.name=x -c user.email=x commit --quiet --all --message=x")
    assert pipeline.start() == 0
    assert pipeline.result(commit) == "good"


@pytest.mark.parametrize(
    "trick", ["ln -sf /etc/passwd {}", "rm -f {0}; mkfifo {0}", "rm -f {0}; mkdir {0}", "echo $((1/1)) >{}"]
)
@pytest.mark.parametrize("file", [".running", ".checked"])
def test_a_note_that_the_checks_replaced_is_none(tmp_path: Path, trick: str, file: str) -> None:
    path = tmp_path / file
    path.write_text("0" * 40)
    assert runs.commit(path) == "0" * 40
    subprocess.run(["sh", "-c", trick.format(path)], check=True)
    assert runs.commit(path) == ""


def test_only_the_runs_own_leftovers_are_ended(tmp_path: Path) -> None:
    units = {
        "1": "/system.slice/phoenix-ci.service",
        "2": "/system.slice/phoenix-ci.service/x",
        "3": "/user.slice/session-1.scope",
    }
    units["4"] = "/system.slice/other-phoenix-ci.service"
    for pid, unit in units.items():
        (tmp_path / pid).mkdir()
        (tmp_path / pid / "cgroup").write_text(f"1:name=systemd:{unit}\n0::{unit}\n")
    (tmp_path / "self").mkdir()
    assert sorted(deliver.leftovers(os.getuid(), tmp_path)) == [1, 2]
    assert deliver.leftovers(os.getuid() + 1, tmp_path) == []


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("git-receive-pack '/application'", ["git-receive-pack", push.REPOSITORY]),
        ("git-upload-pack '/root/other.git'", ["git-upload-pack", push.REPOSITORY]),
        ("git-upload-archive '/application'", []),
        ("git-receive-pack", []),
        ("git-receive-pack a b", []),
        ("bash -i", []),
        ("git-receive-pack 'x", []),
        ("", []),
    ],
)
def test_a_developers_key_is_for_one_repository(line: str, expected: list[str]) -> None:
    assert push.command(line) == expected


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

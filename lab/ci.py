"""From a local git push to a rolled-out release, without a CI server: `make ci-local`.

Pushes the application (a copy of app/, with its own history) into the repository on control, follows the pipeline that
the push starts, and prints its result. Among its tests is a malicious one, which must reach no key, and must have ended
before the delivery. A second push, whose tests fail, must leave the fleet unchanged.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from lab import fleet, releases

TOP = Path(__file__).resolve().parents[1]
SSH_CONFIG = TOP / ".lab" / "ssh_config"
RUNS = "/var/lib/phoenix-ci/runs"
REPOSITORY = "/var/lib/phoenix-ci/application.git"
WAIT_SECONDS = 900
HOSTILE = TOP / "tests" / "fixtures" / "hostile-build" / "hostile-test.js"


def ssh(host: str, command: str) -> str:
    done = subprocess.run(["ssh", "-F", str(SSH_CONFIG), host, command], capture_output=True, text=True, check=False)
    return done.stdout.strip()


def push(source: Path, control: str) -> str:
    """Commit a folder, push it to the repository on control, and return the commit."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(source), "-c", "user.name=ci-local", "-c", "user.email=ci-local@phoenix.lab"]
        return subprocess.run([*command, *arguments], check=True, capture_output=True, text=True).stdout.strip()

    shutil.rmtree(source / "node_modules", ignore_errors=True)
    git("init", "--quiet", "--initial-branch=main")
    git("add", "--all")
    git("commit", "--quiet", "--message=Pushed by make ci-local")
    git(
        "-c",
        f"core.sshCommand=ssh -F {SSH_CONFIG}",
        "push",
        "--quiet",
        "--force",
        "--receive-pack=sudo -u phoenix-deliver git-receive-pack",
        f"ssh://{control}{REPOSITORY}",
        "main",
    )
    return git("rev-parse", "HEAD")


def follow(control: str, commit: str, report: Callable[[str], None]) -> tuple[str, dict[str, dict[str, float]]]:
    """Wait for the pipeline to end and return (good or failed, {stage: {seconds, status}}).

    Raises:
        TimeoutError: it did not end in time.
    """
    end = time.monotonic() + WAIT_SECONDS
    while not (result := ssh(control, f"cat {RUNS}/{commit}/result 2>/dev/null")):
        if time.monotonic() > end:
            raise TimeoutError(f"the pipeline of {commit[:8]} did not end: journalctl -u phoenix-ci on {control}")
        time.sleep(1)
    stages = json.loads(ssh(control, f"cat {RUNS}/{commit}/stages.json"))
    report(
        f"{commit[:8]}: {result}: " + ", ".join(f"{name} {stage['seconds']:.0f} s" for name, stage in stages.items())
    )
    return result, stages


def reached(control: str) -> list[str]:
    """What the malicious test of the last run reached; [] where it failed with everything."""
    top = "/var/lib/phoenix-ci"
    seen = json.loads(ssh(control, f"sudo cat {top}/workspace/reports/hostile.json"))
    found = [name for name, answer in seen.items() if answer == "reached"]
    # Its process noted until its end that it was there.
    last, began = (
        float(ssh(control, f"sudo stat -c %.Y {top}/{name}")) for name in ("workspace/alive", "deliver/commit")
    )
    if last > began:
        found.append(f"the delivery: it was there {last - began:.1f} s after that began")
    if left := ssh(control, "ps -u phoenix-ci -o args --no-headers"):
        found.append(f"the time after its run: {left}")
    print(f"the malicious test tried {len(seen)} places and to stay; it reached: {', '.join(found) or 'nothing'}")
    return found


def main(inventory: str) -> int:
    hosts = fleet.read(Path(inventory)).hosts
    control = next(host.name for host in hosts if "control" in host.groups)
    application = next(host.name for host in hosts if "app" in host.groups)

    def serving() -> str:
        return ssh(application, "basename $(readlink /opt/phoenix/current)")

    with tempfile.TemporaryDirectory() as folder:
        note = time.strftime("%H%M%S", time.gmtime())
        source = releases.make("good", Path(folder, "good"), note)
        shutil.copy(HOSTILE, source / "test")
        commit = push(source, control)
        good, _ = follow(control, commit, print)
        after = serving()
        print(f"serving: {after}")
        if good != "good" or not after.endswith(commit[:8]):
            print(ssh(control, f"tail -n 40 {RUNS}/{commit}/log"))
            return 1
        if reached(control):
            return 1
        commit = push(releases.make("test", Path(folder, "test"), note), control)
        bad, stages = follow(control, commit, print)
        print(f"serving: {serving()}")
        if bad != "failed" or stages["test"]["status"] == 0 or serving() != after:
            print(ssh(control, f"tail -n 40 {RUNS}/{commit}/log"))
            return 1
    print("a push became a release, and a push with a failing test did not")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))

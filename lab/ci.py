"""From a local git push to a rolled-out release, without a CI server: `make ci-local`.

Pushes three times within a minute (copies of app/, with a history of their own) into the repository on control,
follows the pipeline, and prints a line for each proof. The first push has a malicious test and a malicious dependency,
which must reach no key, and must have ended before the delivery and before the release is packed. The second is
superseded by the third, whose tests fail, so that it must leave the fleet unchanged.
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
RELEASES = "/var/lib/phoenix/releases"
HOSTILE = TOP / "tests" / "fixtures" / "hostile-build" / "hostile-push.js"
KEY_HEADER = "BEGIN OPENSSH PRIVATE KEY"  # pragma: allowlist secret
START_SECONDS = 60


def ssh(host: str, command: str) -> str:
    done = subprocess.run(["ssh", "-F", str(SSH_CONFIG), host, command], capture_output=True, text=True, check=False)
    return done.stdout.strip()


def push(source: Path, repository: Path, control: str) -> str:
    """Commit what is in a folder, push it to the repository on control, and return the commit."""

    def git(*arguments: str) -> str:
        command = ["git", "--git-dir", str(repository), "--work-tree", str(source)]
        author = ["-c", "user.name=ci-local", "-c", "user.email=ci-local@phoenix.lab"]
        done = subprocess.run([*command, *author, *arguments], check=True, capture_output=True, text=True)
        return done.stdout.strip()

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


def wait(control: str, commit: str, reached: str, seconds: int) -> None:
    """Until a shell command on control succeeds.

    Raises:
        TimeoutError: it did not in time.
    """
    end = time.monotonic() + seconds
    while ssh(control, f"{{ {reached}; }} && echo yes") != "yes":
        if time.monotonic() > end:
            raise TimeoutError(f"the pipeline of {commit[:8]} did not go on: journalctl -u phoenix-ci on {control}")
        time.sleep(1)


def follow(control: str, commit: str, report: Callable[[str], None]) -> tuple[str, dict[str, dict[str, float]]]:
    """Wait for the run of a push to end and return (good, failed or superseded, {stage: {seconds, status}}).

    Raises:
        TimeoutError: it did not end in time.
    """
    wait(control, commit, f"test -e {RUNS}/{commit}/result", WAIT_SECONDS)
    result = ssh(control, f"cat {RUNS}/{commit}/result")
    stages = json.loads(ssh(control, f"cat {RUNS}/{commit}/stages.json 2>/dev/null") or "{}")
    took = ", ".join(f"{name} {stage['seconds']:.0f} s" for name, stage in stages.items())
    report(f"{commit[:8]}: {result}{': ' * bool(took)}{took}")
    return result, stages


def reached_in_checks(control: str, commit: str) -> list[str]:
    """What the malicious code of a push reached before its delivery began; [] where it failed with everything."""
    top = "/var/lib/phoenix-ci"
    delivered = f"test $(cat {top}/deliver/commit) = {commit}"
    wait(control, commit, f"{delivered} || test -e {RUNS}/{commit}/result", WAIT_SECONDS)
    if ssh(control, f"{delivered} && echo yes") != "yes":
        return []  # the checks failed, which is an error of its own
    # Its processes noted until their end that they were there.
    time.sleep(1)
    last, began = (
        float(ssh(control, f"sudo stat -c %.Y {top}/{name}")) for name in ("workspace/alive", "deliver/commit")
    )
    found = [f"the delivery: it was there {last - began:.1f} s after that began"] if last > began else []
    if left := ssh(control, "ps -u phoenix-ci -o args --no-headers"):
        found.append(f"the time after its run: {left}")
    for name in ("test", "dependency"):
        seen = ssh(control, f"sudo cat {top}/workspace/reports/hostile-{name}.json")
        found += judged(f"the malicious {name} in the checks", seen)
    return found


def reached_in_build(control: str, commit: str, release: str) -> list[str]:
    """What the malicious dependency reached while the release was built."""
    archive = f"sudo tar xzOf {RELEASES}/{release}.tar.gz"
    found = judged(
        "the malicious dependency in the build", ssh(control, f"{archive} ./reports/hostile-dependency.json")
    )
    if left := ssh(control, "ps -u phoenix-build -o args --no-headers"):
        found.append(f"the time after the build: {left}")
    for place, content in (("the release", archive), ("the log", f"cat {RUNS}/{commit}/log")):
        if ssh(control, f"{content} | grep -c '{KEY_HEADER}'") != "0":
            found.append(f"a key, through a link, in {place}")
    return found


def judged(who: str, seen: str) -> list[str]:
    """Report what it tried, and return what it reached."""
    if not seen:
        return [f"its own end: {who} left no report"]
    places = json.loads(seen)
    found = [f"{place}, by {who}" for place, answer in places.items() if answer == "reached"]
    print(f"{who} tried {len(places)} places, to stay, and to swap links; it reached: {', '.join(found) or 'nothing'}")
    return found


def main(inventory: str) -> int:
    hosts = fleet.read(Path(inventory)).hosts
    control = next(host.name for host in hosts if "control" in host.groups)
    application = next(host.name for host in hosts if "app" in host.groups)

    def serving() -> str:
        return ssh(application, "basename $(readlink /opt/phoenix/current)")

    def failed(commit: str, why: str) -> int:
        print(f"{why}\n{ssh(control, f'tail -n 40 {RUNS}/{commit}/log')}")
        return 1

    with tempfile.TemporaryDirectory() as folder:
        note = time.strftime("%H%M%S", time.gmtime())
        repository = Path(folder, "git")
        source = releases.make("good", Path(folder, "hostile"), note)
        shutil.copy(HOSTILE, source / "test")
        releases.depend(source, HOSTILE)
        began = time.monotonic()
        first = push(source, repository, control)
        # One that waits when another comes is superseded.
        wait(control, first, f"test $(cat {RUNS}/.running) = {first}", START_SECONDS)
        second = push(releases.make("good", Path(folder, "good"), note), repository, control)
        third = push(releases.make("test", Path(folder, "test"), note), repository, control)
        names = ", ".join(commit[:8] for commit in (first, second, third))
        print(f"three pushes within {time.monotonic() - began:.0f} s: {names}")

        reached = reached_in_checks(control, first)
        good, _ = follow(control, first, print)
        after = serving()
        print(f"serving: {after}")
        if good != "good" or not after.endswith(first[:8]):
            return failed(first, "the first push did not become the release that serves")
        reached += reached_in_build(control, first, after)
        if reached:
            return failed(first, f"malicious code reached {'; '.join(reached)}")

        bad, stages = follow(control, third, print)
        print(f"serving: {serving()}")
        if bad != "failed" or not stages["test"]["status"] or serving() != after:
            return failed(third, "the push with a failing test was not stopped")
        superseded, _ = follow(control, second, print)
        left = ssh(control, f"ls {REPOSITORY}/../queue")
        if superseded != "superseded" or left:
            return failed(second, f"the second push is {superseded}, and the queue holds: {left or 'nothing'}")
    print("of three pushes none was lost: one was rolled out, one superseded, and one stopped by its failing test")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))

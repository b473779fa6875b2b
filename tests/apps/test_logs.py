"""The logs of a fleet, followed over a real SSH: what ends it on control ends it on every host."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.harness import sshd
from tests.harness.waiting import wait_for
from tests.unit.shared import TOP

# As long as nobody reads what it would write, the real one ends only with the next line, if there is one.
JOURNAL = """#!/bin/sh
case "$*" in *--follow*) ;; *) exit 0;; esac
echo $$ >>{root}/pids
echo '{{"__REALTIME_TIMESTAMP": "1", "_HOSTNAME": "'$HOST'", "SYSLOG_IDENTIFIER": "phoenix-3000", '\\
'"_SYSTEMD_UNIT": "phoenix@3000.service", "MESSAGE": "hello"}}'
exec sleep 3600
"""
# A shell's background jobs ignore Ctrl-C, and so does all that they start, such as a run of these tests.
PROGRAM = """
import signal
import sys
from pathlib import Path
signal.signal(signal.SIGINT, signal.default_int_handler)
from phoenix.instances import fleet_logs, logs
fleet_logs.KEY, fleet_logs.USER, fleet_logs.KNOWN_HOSTS = Path({key!r}), {user!r}, (Path({known!r}),)
fleet_logs.hosts = lambda: {hosts!r}
sys.exit(logs.main(["--fleet", "--follow"]))
"""


@pytest.fixture
def root() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="phx-"))
    yield folder
    shutil.rmtree(folder)


def program(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


def alive(pid: int) -> bool:
    try:
        return "(zombie)" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("end", ["Ctrl-C", "SIGTERM", "SIGHUP", "nobody reads"])
def test_what_ends_it_leaves_nothing_running_on_the_hosts(root: Path, end: str) -> None:
    program(root / "bin" / "journalctl", JOURNAL.format(root=root))
    program(root / "bin" / "sudo", '#!/bin/sh\nshift\nexec "$@"\n')
    program(
        root / "bin" / "phoenixctl",
        f'#!/bin/sh\nexport PYTHONPATH={TOP / "src"}\nexec {sys.executable} -m phoenix "$@"\n',
    )
    accepted = sshd.key(root / "user")
    with ExitStack() as stack:
        servers = {}
        for name in ("app1", "app2"):
            (root / name).mkdir()
            settings = f"SetEnv HOST={name} PATH={root / 'bin'}:/usr/bin:/bin"
            servers[name] = stack.enter_context(sshd.serving(root / name, accepted, settings))
        known = "".join(f"[127.0.0.1]:{one.port} {one.host_key}\n" for one in servers.values())
        (root / "known").write_text(known)
        text = PROGRAM.format(
            key=str(root / "user"),
            user=servers["app1"].user,
            known=str(root / "known"),
            hosts={name: ("127.0.0.1", one.port) for name, one in servers.items()},
        )
        followed = subprocess.Popen(
            [sys.executable, "-c", text], stdout=subprocess.PIPE, text=True, start_new_session=True,
            env={**os.environ, "PYTHONPATH": str(TOP / "src")},
        )  # fmt: skip
        try:
            assert followed.stdout
            shown = sorted(followed.stdout.readline().split(" ", 1)[1] for _ in servers)
            assert shown == ["app1 phoenix-3000 hello\n", "app2 phoenix-3000 hello\n"]
            pids = [int(pid) for pid in (root / "pids").read_text().split()]
            assert len(pids) == 2 and all(map(alive, pids))
            if end == "nobody reads":
                followed.stdout.close()
            else:
                # The terminal's Ctrl-C is for all that run in it.
                {"Ctrl-C": os.killpg}.get(end, os.kill)(
                    followed.pid, {"SIGTERM": signal.SIGTERM, "SIGHUP": signal.SIGHUP}.get(end, signal.SIGINT)
                )
            assert followed.wait(30) == 0
            wait_for(lambda: not any(map(alive, pids)), 30, "the end of journalctl on each host", root / "app1" / "log")
        finally:
            followed.kill()
            followed.wait()

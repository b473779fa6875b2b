"""A real SSH server for tests without a fleet: Debian's own, for the user who runs the tests."""

from __future__ import annotations

import contextlib
import os
import pwd
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lab.ports import free_port
from tests.harness import debian
from tests.harness.real_nginx import listens
from tests.harness.waiting import wait_for


@dataclass(frozen=True)
class Server:
    """Its user, port on 127.0.0.1, and public key."""

    user: str
    port: int
    host_key: str


def key(path: Path) -> str:
    """A key pair; returns the public half."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", path], check=True)
    return path.with_suffix(".pub").read_text(encoding="ascii").strip()


def own_passwords(root: Path) -> list[str | Path]:
    """A command's beginning: with users of its own, as root's sshd wants one that a machine without it lacks."""
    for name, ends in (("passwd", ":0:0::/root:/bin/sh"), ("shadow", ":19000::::::")):
        lines = f"root:x{ends}\nsshd:x{ends.replace(':0:0:', ':199:199:')}\n"
        (root / name).write_text(lines, encoding="ascii")
    script = (
        f"mount --bind {root}/passwd /etc/passwd && mount --bind {root}/shadow /etc/shadow && mount -t tmpfs none /run"
        ' && mkdir /run/sshd && exec "$@"'
    )
    return ["unshare", "--mount", "sh", "-c", script, "sh"]


@contextlib.contextmanager
def serving(root: Path, accepted: str, *settings: str) -> Iterator[Server]:
    """A server for one public key. root: a folder of its own, with a short name; settings: lines of sshd_config."""
    user, port, host = pwd.getpwuid(os.geteuid()).pw_name, free_port(), key(root / "host")
    (root / "accepted").write_text(f"{accepted}\n", encoding="ascii")
    lines = (
        *(f"Port {port}", "ListenAddress 127.0.0.1", f"HostKey {root / 'host'}"),
        *(f"AuthorizedKeysFile {root / 'accepted'}", "PidFile none", "StrictModes no", "UsePAM no"),
        *settings,
    )
    (root / "sshd_config").write_text("".join(f"{line}\n" for line in lines), encoding="ascii")
    sshd = debian.program("openssh-server", "usr/sbin/sshd", "libwrap0", "libnsl2", "libtirpc3")
    server = subprocess.Popen(
        [*(own_passwords(root) if user == "root" else ()), sshd, "-D", "-e", "-f", root / "sshd_config"],
        stderr=(root / "log").open("w"),
        env=debian.environment(sshd),
    )
    try:
        wait_for(lambda: listens(port), 10, "the SSH server", root / "log")
        yield Server(user, port, host)
    finally:
        server.terminate()
        server.wait(30)

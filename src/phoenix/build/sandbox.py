"""Run untrusted code as a transient unit of systemd, with little of the host in its reach.

Whatever a command leaves behind is killed with it: all run as a unit of one name, one at a time.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import IO

from phoenix.common import process

UNIT = "phoenix-build.service"
NONE: Mapping[str, Path] = MappingProxyType({})
TAIL = 4000  # bytes of output that an error shows
ROUNDS = 100  # of 50 ms, until what was killed has to be gone

# MemoryDenyWriteExecute stays off: V8 compiles to memory that it then executes. The network stays: packages come over
# it.
PROPERTIES = (
    "KillMode=control-group",
    "KillSignal=SIGKILL",
    "NoNewPrivileges=yes",
    "CapabilityBoundingSet=",
    "ProtectSystem=strict",
    "ProtectHome=yes",
    "PrivateTmp=yes",
    "PrivateDevices=yes",
    "PrivateIPC=yes",
    "TemporaryFileSystem=/dev/shm",
    # Of these only what BindPaths and BindReadOnlyPaths name is there: no key, no state, no other build.
    "TemporaryFileSystem=/var:ro",
    "TemporaryFileSystem=/opt:ro",
    "InaccessiblePaths=-/etc/phoenix -/etc/npmrc -/etc/ssh -/srv -/mnt -/media",
    # By the bus a process could have another one started outside this unit.
    "InaccessiblePaths=-/run/dbus -/run/user",
    "ProtectProc=invisible",
    "ProtectClock=yes",
    "ProtectHostname=yes",
    "ProtectKernelLogs=yes",
    "ProtectKernelModules=yes",
    "ProtectKernelTunables=yes",
    "ProtectControlGroups=yes",
    "RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK",
    "RestrictNamespaces=yes",
    "RestrictRealtime=yes",
    "RestrictSUIDSGID=yes",
    "LockPersonality=yes",
    "RemoveIPC=yes",
    "KeyringMode=private",
    "SystemCallArchitectures=native",
    "MemorySwapMax=0",
    "TasksMax=1024",
    # The fleet's own programs on this host come first.
    "CPUWeight=20",
    "UMask=0022",
)


class SandboxError(Exception):
    """A command failed; its text is the status and the end of the output."""


@dataclass(frozen=True)
class Sandbox:
    """Where commands run. folder: all of /var that they see, and all that they may write, as far as its modes allow."""

    user: str
    folder: Path
    programs: Sequence[Path] = ()  # parts of /opt that they need
    timeout: int = 900  # s, for each command
    memory: str = "2G"

    def line(
        self, words: Sequence[str], environment: Mapping[str, str], folder: Path, secrets: Mapping[str, Path] = NONE
    ) -> list[str]:
        """The command line that runs words; values stay out of it, since everybody may read a command line."""
        properties = [
            *PROPERTIES,
            f"User={self.user}",
            f"WorkingDirectory={folder}",
            f"BindPaths={self.folder}",
            f"ReadWritePaths={self.folder}",
            *(f"BindReadOnlyPaths={path}" for path in self.programs),
            f"RuntimeMaxSec={self.timeout}",
            f"MemoryMax={self.memory}",
            "Nice=10",  # control serves the fleet meanwhile
        ]
        properties += [f"LoadCredential={name}:{path}" for name, path in secrets.items()]
        return [
            *("systemd-run", "--pipe", "--wait", "--collect", "--service-type=exec", f"--unit={UNIT}"),
            *(f"--property={one}" for one in properties),
            *(f"--setenv={name}" for name in sorted(environment)),
            *("--", *words),
        ]

    def end(self) -> None:
        """Kill everything that runs as the user, such as what an interrupted build left behind.

        Raises:
            SandboxError: there is always another process.
        """
        # Mostly the unit is not loaded, since nothing runs; where it can't be stopped, its next start fails.
        subprocess.run(["systemctl", "stop", UNIT], stderr=subprocess.DEVNULL, check=False)
        account = pwd.getpwnam(self.user).pw_uid
        for _ in range(ROUNDS):
            left = process.owned_by(account)
            if not left:
                return
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.05)
        raise SandboxError(f"processes of {self.user} can't be ended: {left}")

    @contextlib.contextmanager
    def _process(
        self,
        words: Sequence[str],
        environment: Mapping[str, str],
        folder: Path,
        stdin: IO[bytes] | None = None,
        secrets: Mapping[str, Path] = NONE,
        stderr: IO[bytes] | int = subprocess.STDOUT,
    ) -> Iterator[subprocess.Popen[bytes]]:
        self.end()
        running = subprocess.Popen(
            self.line(words, environment, folder, secrets),
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", **environment},
            stdin=stdin or subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
        )
        try:
            yield running
        finally:
            if running.stdout:
                running.stdout.close()
            self.end()
            running.wait()

    def run(
        self,
        words: Sequence[str],
        environment: Mapping[str, str],
        *,
        folder: Path,
        stdin: IO[bytes] | None = None,
        secrets: Mapping[str, Path] = NONE,
    ) -> None:
        """Run words in a folder, to their end. secrets: files that only they can read, at the paths of credential().

        Raises:
            SandboxError: they failed, took too long, or needed too much memory.
        """
        with self._process(words, environment, folder, stdin, secrets) as running:
            assert running.stdout
            tail = b""
            while block := running.stdout.read1(1 << 16):  # type: ignore[attr-defined]
                tail = (tail + block)[-TAIL:]
            if status := running.wait():
                raise SandboxError(f"ended with status {status}:\n{tail.decode(errors='replace')}")

    @contextlib.contextmanager
    def stream(self, words: Sequence[str], *, folder: Path) -> Iterator[IO[bytes]]:
        """The output of words, which is untrusted.

        Raises:
            SandboxError: they failed, once the output has been read.
        """
        with tempfile.TemporaryFile() as errors, self._process(words, {}, folder, stderr=errors) as running:
            assert running.stdout
            yield running.stdout
            while running.stdout.read(1 << 16):
                pass
            if status := running.wait():
                errors.seek(0)
                tail = errors.read()[-TAIL:].decode(errors="replace")
                raise SandboxError(f"ended with status {status}:\n{tail}")


def credential(name: str) -> str:
    """The path at which a command finds one of its secrets."""
    return f"/run/credentials/{UNIT}/{name}"

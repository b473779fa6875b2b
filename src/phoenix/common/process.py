"""Processes and the current boot, as the kernel reports them."""

from __future__ import annotations

from pathlib import Path


def stat(pid: int | str) -> list[str]:
    """Return the fields of /proc/PID/stat that follow the name, which stands in parentheses and may hold spaces.

    So [0] is the state, [1] the parent, [19] the start in clock ticks since boot (proc(5)).

    Raises:
        OSError: there is no such process.
    """
    return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()


def boot() -> str:
    """Identify this boot. The start of process 1 is part of it: a container shares the boot ID of its host."""
    identity = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return f"{identity}/{stat(1)[19]}"


def owned_by(account: int) -> list[int]:
    """The processes of a user, those apart that have ended and wait for their parent (Z)."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdigit() and folder.stat().st_uid == account and stat(folder.name)[0] != "Z":
                found.append(int(folder.name))
        except (OSError, IndexError):  # gone meanwhile
            continue
    return found

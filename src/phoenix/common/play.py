"""Plays that control runs: for the autoscaler, for hosts on demand, and by phoenixctl play."""

from __future__ import annotations

# Kept for an hour: under a rising load, handshakes would take most of the time.
SSH = "-o ControlMaster=auto -o ControlPersist=3600s -o ServerAliveInterval=15"


def environment(ansible: str, user: str) -> dict[str, str]:
    """What a play has in its environment. ansible: the folder of its programs; user: by default who holds the lock."""
    return {"PATH": f"{ansible}:/usr/bin:/bin", "LANG": "C.UTF-8", "USER": user, "ANSIBLE_SSH_ARGS": SSH}

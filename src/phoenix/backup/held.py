"""Keep the fleet's lock for a restore that outlives its play, where the store is on control."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

from phoenix.state import lock

# As playbooks/restore.yml takes it: what is left of it where this program dies as well.
LEASE_S = 600.0
EVERY_S = 60.0


@contextlib.contextmanager
def held(token: str, folder: Path = lock.FOLDER) -> Iterator[None]:
    """Renew the lock until the block ends. Without a token, or on another host than control, nothing is renewed.

    The play releases it, and where that has died, the lease lapses.
    """
    ended = threading.Event()

    def renew() -> None:
        while not ended.wait(EVERY_S):
            with contextlib.suppress(OSError):
                if not lock.renew(folder, token, LEASE_S):
                    return  # broken by an operator

    if token and folder.is_dir():
        threading.Thread(target=renew, daemon=True).start()
    try:
        yield
    finally:
        ended.set()

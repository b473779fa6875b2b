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
# After the restore's end: a play that lives asks every 5 s and takes its full lease again; no other waits longer than
# this for one that died.
LAST_S = 120.0


@contextlib.contextmanager
def held(token: str, folder: Path = lock.FOLDER) -> Iterator[None]:
    """Renew the lock until the block ends. Without a token, or on another host than control, nothing is renewed.

    The play releases it, and where that has died, the lease lapses soon after the restore's end.
    """
    if not token or not folder.is_dir():
        yield
        return
    ended = threading.Event()

    def renew() -> None:
        while not ended.wait(EVERY_S):
            with contextlib.suppress(OSError):
                if not lock.renew(folder, token, LEASE_S):
                    return  # broken by an operator

    renewing = threading.Thread(target=renew, daemon=True)
    renewing.start()
    try:
        yield
    finally:
        ended.set()
        # Or its last renewal may come after this one.
        renewing.join()
        with contextlib.suppress(OSError):
            lock.renew(folder, token, LAST_S)

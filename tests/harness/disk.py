"""A database member whose disk is full: for a while a small file system is in the place of its data."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tests.harness.database import admin, ask, whole
from tests.harness.hosts import hosts_of, output_of
from tests.harness.waiting import wait_for

DATA = "/var/lib/mongodb"
SMALL = "/run/phoenix-test-disk"
COPIED = f"{SMALL}.copied"  # without it, the folder below is the one that counts
ROOM_MB = 32
SHRINK = f"""set -e
systemctl stop mongod
mkdir -p {SMALL}
mount -t tmpfs -o size=$(( $(du -sm {DATA} | cut -f1) + {ROOM_MB} ))m tmpfs {SMALL}
cp -a {DATA}/. {SMALL}/
touch {COPIED}
mount --bind {SMALL} {DATA}
systemctl start mongod"""
# Also after any part of it, or of the above.
GROW = f"""set -e
mountpoint -q {SMALL} || exit 0
systemctl stop mongod
if mountpoint -q {DATA}; then umount {DATA}; fi
if [ -e {COPIED} ]; then
    find {DATA} -mindepth 1 -delete
    cp -a {SMALL}/. {DATA}/
    rm {COPIED}
fi
umount {SMALL}
rmdir {SMALL}
systemctl start mongod"""
FILLER = f"{DATA}/phoenix-test-filler"
FILL = f"! dd if=/dev/zero of={FILLER} bs=64k 2>/dev/null"
FREE = f"rm -f {FILLER}"


@contextmanager
def full_disk(inventory: str, name: str) -> Iterator[float]:
    """Keep the disk of a member full while the block runs, which begins when the server has ended for that reason.

    Yields how long that took, in seconds. Afterwards there is space again, by which it has to come back by itself.
    """
    members = hosts_of("db", inventory)
    host = members[name]
    try:
        host.check_output(SHRINK)
        wait_for(lambda: whole(members), 120, f"{name} follows, on a small disk")
        host.check_output(FILL)
        _write_everything(inventory, name)
        yield wait_for(lambda: output_of(host, "systemctl show -p NRestarts --value mongod") != "0", 120, "its end")
        host.check_output(FREE)
        wait_for(lambda: whole(members), 120, f"{name} follows again, with space on its disk")
    finally:
        host.check_output(GROW)


def _write_everything(inventory: str, name: str) -> None:
    """Have the server write what it holds in memory, as it does every minute. It may end of it, without an answer."""
    ask(inventory, name, {"fsync": 1}, **admin(inventory))

"""Check of archives on this machine against their checksums."""

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from phoenix.common import files
from phoenix.fleet.inputs import is_checksum
from phoenix.fleet.inventory.model import Finding, Inventory


@lru_cache(maxsize=64)
def _sha256(path: str, size: int, modified: int) -> str:
    """Return an archive's SHA-256; with size and modification time as the cache's key it is read only once."""
    return files.sha256(Path(path))


def bad_archives(inventory: Inventory) -> Iterator[Finding]:
    for host in inventory.hostvars:
        for name in inventory.names(host):
            sibling = f"{name}_checksum"
            if not name.endswith("_archive") or not (
                sibling in inventory.options or sibling in inventory.hostvars[host]
            ):
                continue
            archive, checksum = inventory.value(host, name), inventory.value(host, sibling)
            if not isinstance(archive, str) or not archive:
                continue
            if not isinstance(checksum, str) or not checksum:
                yield host, f"{sibling}: missing for {name} {archive!r}; set it to sha256:<64 hexadecimal digits>"
                continue
            if not is_checksum(checksum):
                yield (
                    host,
                    f"{sibling}: {checksum!r} is not a checksum; write sha256:<64 hexadecimal digits in lower case>",
                )
                continue
            if "://" in archive and not archive.startswith("file://"):
                continue
            path = Path(archive.removeprefix("file://")).expanduser()
            try:
                status = path.stat()
                digest = _sha256(str(path), status.st_size, status.st_mtime_ns)
            except OSError as error:
                yield (
                    host,
                    f"{name}: {archive!r} can't be read on this machine ({error.strerror}); fetch or correct it",
                )
                continue
            if digest != checksum.partition(":")[2]:
                yield (
                    host,
                    (
                        f"{sibling}: {checksum!r} differs from the archive {archive!r}, which has "
                        f"sha256:{digest}; fetch the archive again, or correct the checksum if you trust it"
                    ),
                )

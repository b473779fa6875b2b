"""Names that a program resolves as on a host of a fleet, by an /etc/hosts of its own."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from phoenix.database import names


def resolving(root: Path, addresses: Mapping[str, str]) -> list[str]:
    """A command's beginning: with these names in its hosts file, which is written into the folder."""
    file = root / "hosts"
    file.write_text("127.0.0.1 localhost\n")
    names.keep(file, "".join(f"{address} {name}\n" for name, address in addresses.items()))
    user = [] if os.getuid() == 0 else ["--map-root-user"]
    return ["unshare", "--mount", *user, "sh", "-c", f'mount --bind {file} /etc/hosts && exec "$@"', "sh"]

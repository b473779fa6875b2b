"""Whether the package on a host is older than a play: then it may not know what the play asks of it.

The release counts, and not the build: of two builds of one release none is known to be the older one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from phoenix import __version__


def _release(version: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", version.partition("-")[0])))


def behind(printed: str, wanted: str = "") -> str:
    """The version that `phoenixctl --version` printed where it is older than the play; "" where not, or where none is.

    wanted: the version that was put back on purpose (toolkit_version), which is as good as the play's own; or "".
    """
    found = re.fullmatch(r"phoenixctl (\S+)", printed.strip())
    return found[1] if found and _release(found[1]) < _release(wanted or __version__) else ""


def refusal(results: Sequence[Mapping[str, Any]], wanted: Mapping[str, str] = {}) -> str:
    """Why a play may not go on; "" where it may. results: of `phoenixctl --version`, one for each host, by `item`.

    wanted: by host, the version that was put back there on purpose, or "".
    A host that does not answer, or has no package, is left to the play.
    """
    older = {
        host: version
        for one in results
        if (version := behind(str(one.get("stdout", "")), wanted.get(host := str(one["item"]), "")))
    }
    if not older:
        return ""
    return (
        f"Phoenix's package is older than this play, which is of {__version__}: "
        f"{', '.join(f'{host} has {version}' for host, version in older.items())}. Run playbooks/site.yml first, for "
        "these hosts as well. Where it is refused because hosts are lost, or an older package was put back on purpose, "
        "give this play that version (-e toolkit_version=VERSION), or run it from the checkout of that release. "
        "Nothing was changed."
    )


def hint(host: str, printed: str) -> str:
    """What a command's own error does not say where the host's package is older than the play; "" where it is not."""
    version = behind(printed)
    return (
        f"{host} has Phoenix's package {version}, this play is of {__version__}: run playbooks/site.yml"
        if version
        else ""
    )

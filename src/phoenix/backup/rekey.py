"""The password of the copy off-site replaced: restic takes both while the new one is recorded, then the new one alone.

What opens the data stays the same within a repository, so that a password which others may have calls for a new one.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from phoenix.backup.offsite import NOWHERE, Refused, Restic, Settings, complaint, connected
from phoenix.common import files

WRONG = "wrong password"


def rekey(path: Path, password: str) -> list[str]:
    """Have the repository of offsite.json (path) take this password alone; what was done, [] where nothing was due.

    The former settings are kept beside it until the former password is refused, so that the next call completes one
    that was cut. Raises Refused.
    """
    beside = path.with_name("offsite-former.json")
    text = path.read_text(encoding="utf-8")
    present = Settings(**json.loads(text))
    if present.password == password and not beside.exists():
        return []
    wanted = replace(present, password=password)
    done = []
    if present.password != password:
        if (
            beside.exists()
            and (former := Settings(**json.loads(beside.read_text(encoding="utf-8")))).password != present.password
        ):
            # A change that was cut, to a password that is not wanted any more: its former one must not be forgotten.
            done += _remove(former, present)
            beside.unlink()
        done += _add(present, wanted)
        if not beside.exists():
            files.replace(beside, text, 0o600, durable=True)
        # In the form in which the role `backup` writes it.
        changed = {**json.loads(text), "password": password}
        files.replace(path, json.dumps(changed, indent=4, sort_keys=True) + "\n", 0o600, durable=True)
        done.append("recorded the new password")
    former = Settings(**json.loads(beside.read_text(encoding="utf-8")))
    done += _remove(former, wanted)
    beside.unlink()
    return done


def _keys(restic: Restic) -> list[dict[str, Any]] | None:
    """The repository's keys, the one of this password marked as current; None where it is refused. Raises Refused."""
    seen = restic.run("key", "list", "--json", "--no-lock")
    if seen.returncode == 0:
        return list(json.loads(seen.stdout))
    if WRONG in seen.stderr:
        return None
    raise Refused(complaint(seen))


def _add(present: Settings, wanted: Settings) -> list[str]:
    with connected(wanted) as new, connected(present) as old:
        try:
            if _keys(new) is not None:
                return []
        except Refused as error:
            if NOWHERE in str(error):  # the first copy will make it
                return []
            raise
        added = old.run("key", "add", "--new-password-file", str(new.folder / "password"))
        if added.returncode:
            raise Refused(complaint(added))
    return ["added the new password"]


def _remove(former: Settings, wanted: Settings) -> list[str]:
    with connected(wanted) as new, connected(former) as old:
        try:
            known = _keys(old)
        except Refused as error:
            if NOWHERE in str(error):
                return ["there is no repository yet"]
            raise
        if known is not None and _keys(new) is not None:
            name = next(str(key["id"]) for key in known if key["current"])
            if former.append_only:
                raise Refused(
                    "the storage lets nothing be deleted, so that the former password still opens the copy: remove "
                    f"the file keys/{name}… there by hand, then run this again"
                )
            new.run("unlock")  # only locks of processes that are dead
            removed = new.run("key", "remove", name)
            if removed.returncode:
                raise Refused(complaint(removed))
            known = _keys(old)
        if known is not None or _keys(new) is None:
            raise Refused("the former password still opens the copy, or the new one does not")
    return ["the new password opens the copy, and the former one is refused"]

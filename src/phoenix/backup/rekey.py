"""The password of the copy off-site replaced: restic takes both while the new one is recorded, then the new one alone.

What opens the data stays the same within a repository, so that a password which others may have calls for a new one.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from phoenix.backup.offsite import NOWHERE, Refused, Restic, Settings, complaint, connected
from phoenix.common import files

WRONG = "wrong password"


def note(path: Path, password: str) -> list[str]:
    """Keep the password of offsite.json (path) beside it before the role writes this one; what was done.

    The repository may take only the former one, until rekey() has it take the new one.
    """
    try:
        present = json.loads(path.read_text(encoding="utf-8"))
        repository, former = str(present["repository"]), str(present["password"])
    except (FileNotFoundError, ValueError, TypeError, KeyError):
        return []  # the role writes it whole
    known = _formers(path, repository)
    if former in (password, *known):
        return []
    _keep(path, repository, [*known, former])
    return ["kept the password that the copy off-site takes so far"]


def rekey(path: Path, password: str) -> list[str]:
    """Have the repository of offsite.json (path) take this password alone; what was done, [] where nothing was due.

    All passwords are kept beside it until the former ones are refused, so that the next call completes one that was
    cut, also where site.yml has recorded the new password meanwhile. Raises Refused.
    """
    present = Settings(**(recorded := json.loads(path.read_text(encoding="utf-8"))))
    wanted = replace(present, password=password)
    known = list(dict.fromkeys([*_formers(path, present.repository), present.password]))
    formers = [replace(present, password=one) for one in known if one != password]
    if not formers:
        if _opens(wanted) is False:
            raise Refused(
                "neither backup_offsite_password nor a password that is known here opens the copy: set the one that it "
                "takes, run site.yml --tags backup, and then replace it"
            )
        _keep(path, present.repository, [])
        return []
    _keep(path, present.repository, known)
    there = _opens(wanted) is not None
    done = _add(formers, wanted) if there else []
    if present.password != password:
        # In the form in which the role `backup` writes it.
        changed = {**recorded, "password": password}
        files.replace(path, json.dumps(changed, indent=4, sort_keys=True) + "\n", 0o600, durable=True)
        done.append("recorded the new password")
    if not there:
        # A storage that refuses its own credentials may say the same: what opens the copy is not forgotten for that.
        return done and [*done, "there is no repository yet"]
    for former in formers:
        done += _remove(former, wanted)
    _keep(path, present.repository, [])
    return list(dict.fromkeys(done))


def _beside(path: Path) -> Path:
    return path.with_name("offsite-former.json")


def _formers(path: Path, repository: str) -> list[str]:
    """Passwords that this repository took before, the oldest first."""
    if not _beside(path).exists():
        return []
    kept = json.loads(_beside(path).read_text(encoding="utf-8"))
    # Up to 0.17.0 it held the settings with one of them.
    return [one["password"] for one in (kept if isinstance(kept, list) else [kept]) if one["repository"] == repository]


def _keep(path: Path, repository: str, passwords: Sequence[str]) -> None:
    if passwords:
        kept = [{"repository": repository, "password": one} for one in passwords]
        files.replace(_beside(path), json.dumps(kept), 0o600, durable=True)
    else:
        _beside(path).unlink(missing_ok=True)


def _keys(restic: Restic) -> list[dict[str, Any]] | None:
    """The repository's keys, the one of this password marked as current; None where it is refused. Raises Refused."""
    seen = restic.run("key", "list", "--json", "--no-lock")
    if seen.returncode == 0:
        return list(json.loads(seen.stdout))
    if WRONG in seen.stderr:
        return None
    raise Refused(complaint(seen))


def _opens(settings: Settings) -> bool | None:
    """Whether this password opens the repository; None before the first copy, which makes it. Raises Refused."""
    with connected(settings) as restic:
        try:
            return _keys(restic) is not None
        except Refused as error:
            if NOWHERE in str(error):
                return None
            raise


def _add(formers: Sequence[Settings], wanted: Settings) -> list[str]:
    """Add the new password by the first of the former ones that opens the repository. Raises Refused."""
    with connected(wanted) as new:
        if _keys(new) is not None:
            return []
        for former in formers:
            with connected(former) as old:
                added = old.run("key", "add", "--new-password-file", str(new.folder / "password"))
            if added.returncode == 0:
                return ["added the new password"]
            if WRONG not in added.stderr:
                break
    raise Refused(complaint(added))


def _remove(former: Settings, wanted: Settings) -> list[str]:
    with connected(wanted) as new, connected(former) as old:
        known = _keys(old)
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

"""The secrets of the lab's inventory and the keys that hosts have made, replaced under load; the former are refused."""

from __future__ import annotations

import json
import os
import re
import secrets
import time
from collections.abc import Mapping
from pathlib import Path

from drills.model import Drill, Scene
from phoenix.database import tls
from tests.harness.database import answer, one_primary, tls_modes
from tests.harness.deploys import TIMES

USERS = {"admin": "admin", "app": "phoenix", "backup": "backup", "monitor": "monitor"}
AUTHENTICATION_FAILED = 18
# Not beside the secrets: the sealed copy of the inventory would change once it is gone.
FORMER = ".lab/former.json"
RUNNER_KEY = "cat /var/lib/phoenix-runner/.ssh/id_ed25519.pub"


def _logs_in(scene: Scene, user: str, password: str) -> bool:
    primary = one_primary(scene.hosts("db"))
    seen = answer(scene.inventory, primary, {"ping": 1}, user=user, password=password)
    assert seen.get("ok") == 1 or seen.get("code") == AUTHENTICATION_FAILED, seen
    return bool(seen.get("ok") == 1)


def _trusts(scene: Scene, ca: str) -> bool:
    """Whether a client that trusts this CA alone accepts every member, or none of them."""
    answers = [answer(scene.inventory, member, {"ping": 1}, ca=ca) for member in scene.hosts("db")]
    accepted = {"refused" not in one for one in answers}
    assert len(accepted) == 1, answers
    return accepted == {True}


def _authority(scene: Scene) -> str:
    """The CA that issues the members' certificates; "" without TLS."""
    if tls_modes(scene.hosts("db")) == {tls.MODES[0]}:
        return ""
    shown = scene.hosts("control")[scene.first("control")].check_output("phoenixctl authority show")
    return str(json.loads(shown)["authority"])


def _write(path: Path, content: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(content)


def rotate(scene: Scene, users: Mapping[str, str], others: Mapping[str, int], **options: str) -> dict[str, float]:
    """Replace the passwords of these users, and other secrets, by the names of their files, of so many bytes.

    The lab's inventory reads its secrets from files; with a vault, they are edited there. Where the play fails, the
    former ones stay in .lab, to complete it by hand. options: of the play.
    """
    folder = Path(scene.inventory, ".secrets")
    former = {kind: (folder / f"mongodb-{kind}").read_text().strip() for kind in users}
    assert all(_logs_in(scene, user, former[kind]) for kind, user in users.items())
    began = time.monotonic()
    known = Path(scene.inventory).parents[1] / FORMER
    _write(known, json.dumps({"mongodb_former_passwords": former}))
    for name, length in {**dict.fromkeys((f"mongodb-{kind}" for kind in users), 16), **others}.items():
        new = folder / f"{name}.new"
        _write(new, f"{secrets.token_hex(length)}\n")
        new.replace(folder / name)
    scene.play("rotate-secrets", "-e", f"@{known.resolve()}", **TIMES, **options)
    took = time.monotonic() - began
    known.unlink()
    assert not any(_logs_in(scene, user, former[kind]) for kind, user in users.items())
    for kind, user in users.items():
        present = (folder / f"mongodb-{kind}").read_text().strip()
        assert _logs_in(scene, user, present) and not _logs_in(scene, f"{user}-next", present)
    return {"rotated": took}


def replace_the_applications_password(scene: Scene) -> dict[str, float]:
    return rotate(scene, {"app": USERS["app"]}, {})


def replace_everything(scene: Scene) -> dict[str, float]:
    control = scene.hosts("control")[scene.first("control")]
    former = control.check_output(RUNNER_KEY)
    # The play itself has proven that the former ones are refused.
    others = {"mongodb-keyfile": 256, "netdata-stream": 16, "backup-offsite": 16}
    authority = _authority(scene)
    assert not authority or _trusts(scene, authority)
    measured = rotate(scene, USERS, others, phoenix_rotate="runner,backup" + (",database-ca" if authority else ""))
    assert control.check_output(RUNNER_KEY) != former
    if authority:
        assert _trusts(scene, _authority(scene)) and not _trusts(scene, authority)
    again = scene.play("rotate-secrets")
    assert "changed=0" in again and not re.search(r"changed=[1-9]", again), again[-1500:]
    return measured


SECTION = ("Secrets are replaced",)
DRILLS = [
    Drill("rotate-password", SECTION, replace_the_applications_password, rotated=True),
    Drill("rotate-secrets", SECTION, replace_everything, rotated=True),
]

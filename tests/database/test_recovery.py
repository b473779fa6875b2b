"""From a fleet with its store to nothing but the copy off-site and an operator's key, and back.

restic, age and the SFTP server are Debian's own.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from phoenix.backup import files, inventory, offsite, recovery, sealed, state, store
from tests.harness import debian, sshd
from tests.harness.real_database import NAME, Fleet
from tests.harness.sshd import key

WORD = "mongodb-admin-word"
PART = state.Part("state", ["/var/lib/phoenix/state"])


@pytest.fixture(scope="module", autouse=True)
def tools() -> Iterator[None]:
    before = os.environ["PATH"]
    found = [debian.program(name, f"usr/bin/{name}") for name in ("restic", "age")]
    os.environ["PATH"] = ":".join([before, *(str(Path(one).parent) for one in found)])
    yield
    os.environ["PATH"] = before


@dataclass
class Storage:
    """An SFTP server with a folder for the repository."""

    folder: Path
    settings: offsite.Settings


@pytest.fixture
def storage() -> Iterator[Storage]:
    root = Path(tempfile.mkdtemp(prefix="phx-"))
    repository = root / "repository"
    repository.mkdir()
    accepted = key(root / "user")
    try:
        with sshd.serving(root, accepted, "Subsystem sftp internal-sftp", "ForceCommand internal-sftp") as server:
            yield Storage(
                repository,
                offsite.Settings(
                    f"sftp://{server.user}@127.0.0.1:{server.port}/{repository}", secrets.token_hex(16),
                    "fleet.example", 7, ssh_key=(root / "user").read_text(encoding="ascii"),
                    ssh_host_key=server.host_key,
                ),
            )  # fmt: skip
    finally:
        shutil.rmtree(root)


@dataclass
class Operator:
    """What an operator has: a key, and an inventory."""

    identity: str
    recipients: Path
    own: Path


@pytest.fixture
def operator(tmp_path: Path) -> Operator:
    (tmp_path / "recipients").write_text(key(tmp_path / "operator") + "\n", encoding="ascii")
    (tmp_path / "own" / ".secrets").mkdir(parents=True)
    (tmp_path / "own" / ".secrets" / "mongodb-admin").write_text(WORD, encoding="ascii")
    return Operator((tmp_path / "operator").read_text(encoding="ascii"), tmp_path / "recipients", tmp_path / "own")


@pytest.fixture
def kept(fleet: Fleet, operator: Operator, tmp_path: Path) -> Fleet:
    """A fleet whose store holds a good dump, an hour of the oplog, control's state and the inventory."""
    shutil.rmtree(fleet.store.root / "logs")
    (fleet.store.root / offsite.RECORD).unlink(missing_ok=True)
    fleet.store.prepare()
    fleet.client.app.items.insert_many([{"_id": number, "n": number % 7} for number in range(2000)])
    fleet.client.app.items.create_index("n")
    assert fleet.dump().state == "good"
    (fleet.store.root / "oplog" / "20261124T01").mkdir(exist_ok=True)
    (fleet.store.root / "oplog" / "20261124T01" / "segment").write_text("entries")
    folder = tmp_path / "control" / "var/lib/phoenix/state"
    folder.mkdir(parents=True)
    (folder / "capacity").write_text(f"5 {WORD}", encoding="ascii")
    (fleet.store.root / "logs" / "control1").mkdir()
    name = state.pack(PART, tmp_path / "packed", operator.recipients, tmp_path / "control")
    (tmp_path / "packed").rename(fleet.store.root / "logs" / "control1" / name)
    inventory.keep(fleet.store, inventory.pack(operator.own)[0], operator.recipients)
    return fleet


def holds(folder: Path, word: str) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and word.encode() in path.read_bytes()]


def test_a_fleet_is_back_from_the_copy_and_a_key(
    kept: Fleet, storage: Storage, operator: Operator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = kept.state()
    assert offsite.run(kept.store, storage.settings) == 0
    assert "verified" in capsys.readouterr().out
    assert holds(kept.store.root, WORD) == [], "the store alone reveals a secret"
    assert holds(storage.folder, WORD) == holds(storage.folder, NAME) == [], "the storage reads what it keeps"

    # All is lost: the database, the store, the inventory's secrets, control.
    kept.empty()
    shutil.move(kept.store.root, tmp_path / "lost")
    shutil.rmtree(operator.own)
    operator.own.mkdir()
    root = kept.store.root
    (root / "oplog" / "20261125T01").mkdir(parents=True)
    (root / "oplog" / "20261125T01" / "segment").write_text("sent to the empty store")
    assert recovery.holdings(root)["held"] is False
    assert len(offsite.copies(storage.settings)) == 1
    offsite.fetch(root, storage.settings)

    found = recovery.holdings(root)
    assert (found["dump"], found["dumps"], found["moment"]) == (NAME, 1, "")
    for name in ("oplog/20261124T01/segment", "clock.json", f"receipts/{NAME}.json"):
        assert (root / name).read_bytes() == (tmp_path / "lost" / name).read_bytes()
    assert inventory.bring_back(operator.own, inventory.reveal(Path(found["inventory"]), operator.identity))[0]
    assert (operator.own / ".secrets" / "mongodb-admin").read_text(encoding="ascii") == WORD
    sealed_state = Path(found["state"]["control1"]["state"])
    state.unpack(sealed_state, operator.identity, PART.paths, tmp_path / "new")
    assert (tmp_path / "new/var/lib/phoenix/state/capacity").read_text(encoding="ascii") == f"5 {WORD}"

    assert (root / "oplog/20261125T01/segment").exists()
    kept.store = store.Store(kept.store.config)
    kept.store.prepare()
    (dump,) = kept.store.dumps()
    assert dump.counts, "the store's own dump, not one brought back by hand"
    kept.restore(dump="newest")
    assert kept.state() == before
    # And the store goes on. Of one hour, the last copy stays.
    first = offsite.copies(storage.settings)
    assert offsite.run(kept.store, storage.settings) == 0
    (last,) = offsite.copies(storage.settings)
    assert last > first[0]


JENKINS = Path(__file__).parents[2] / "roles" / "jenkins" / "files"
JENKINS_PART = state.Part("jenkins", ["/etc/jenkins/secrets", "/var/backups/jenkins/jenkins-home-*.tar.gz"])


def test_jenkins_home_is_back_from_its_sealed_copy(operator: Operator, tmp_path: Path) -> None:
    """Packed, sealed, opened on a new host and put in place by the programs of the plays. Of Jenkins only files."""
    (tmp_path / "bin").mkdir()
    calls = tmp_path / "calls"
    (tmp_path / "bin" / "systemctl").write_text(f'#!/bin/sh\necho "$*" >>{calls}\n')
    (tmp_path / "bin" / "systemctl").chmod(0o755)

    def call(root: Path, name: str, *words: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PHOENIX_ROOT": str(root), "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}
        command = [str(JENKINS / name), *words]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    old, new = tmp_path / "old", tmp_path / "new"
    home = old / "var/lib/jenkins"
    build = home / "jobs/phoenix/builds/7"
    for folder in (build, home / "plugins", home / "workspace/phoenix", home / "secrets", old / "etc/jenkins/secrets"):
        folder.mkdir(parents=True)
    (build / "log").write_text("Finished: SUCCESS\n")
    (home / "jobs/phoenix/builds/permalinks").symlink_to("7")
    (home / "secrets/master.key").write_text(WORD)
    (home / "secrets/master.key").chmod(0o600)
    (home / "plugins/git.jpi").write_text("fetched again")
    (old / "etc/jenkins/secrets/agent-key").write_text("key")
    done = call(old, "phoenix-jenkins-backup", "2")
    assert done.returncode == 0, done.stderr

    name = state.pack(JENKINS_PART, tmp_path / "packed", operator.recipients, old)
    assert name.startswith("state.jenkins-")
    assert holds(tmp_path / "packed", WORD) == []
    state.unpack(tmp_path / "packed", operator.identity, JENKINS_PART.paths, new)
    assert (new / "etc/jenkins/secrets/agent-key").read_text() == "key"

    # What the first start of a new host made.
    (new / "var/lib/jenkins").mkdir(parents=True)
    (new / "var/lib/jenkins/fresh").touch()
    done = call(new, "phoenix-jenkins-restore")
    assert done.returncode == 0, done.stderr
    back = new / "var/lib/jenkins"
    assert (back / "jobs/phoenix/builds/7/log").read_text() == "Finished: SUCCESS\n"
    assert (back / "jobs/phoenix/builds/permalinks").readlink() == Path("7")
    assert (back / "secrets/master.key").read_text() == WORD
    assert (back / "secrets/master.key").stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in back.iterdir()) == ["jobs", "secrets"]
    assert (new / "var/lib/jenkins.replaced/fresh").exists()
    assert calls.read_text().splitlines() == ["stop jenkins.service", "start jenkins.service"]

    # A damaged one, and none: what is there stays, and goes on.
    (newest,) = (new / "var/backups/jenkins").iterdir()
    newest.write_bytes(newest.read_bytes()[:-40])
    assert call(new, "phoenix-jenkins-restore").returncode != 0
    newest.unlink()
    assert "name one" in call(new, "phoenix-jenkins-restore").stderr
    assert (back / "secrets/master.key").exists()
    assert len(calls.read_text().splitlines()) == 2
    assert [path.name for path in (new / "var/lib").iterdir() if "restore" in path.name] == []


def test_a_recovery_refuses_what_would_not_help_and_touches_nothing(
    kept: Fleet, storage: Storage, operator: Operator, tmp_path: Path
) -> None:
    with pytest.raises(offsite.Refused, match="there is no repository"):
        offsite.fetch(tmp_path / "none", storage.settings)
    assert offsite.run(kept.store, storage.settings) == 0
    right = storage.settings
    for wrong, reason in (
        (replace(right, password="x" * 32), "does not open the repository"),
        (replace(right, fleet="other.example"), "no copy of the fleet other.example"),
        (
            replace(right, ssh_host_key=key(tmp_path / "other")),
            "[Hh]ost key verification failed|unable to start the sftp",
        ),
    ):
        with pytest.raises(offsite.Refused, match=reason):
            offsite.fetch(tmp_path / "empty", wrong)
    with pytest.raises(offsite.Refused, match=r"and the copy needs [0-9]{16}: [0-9]{4,} for itself"):
        offsite.fetch(tmp_path / "empty", replace(right, min_free=10**15))
    with pytest.raises(offsite.Refused, match="holds backups already"):
        offsite.fetch(kept.store.root, right)
    key(tmp_path / "stranger")
    found = recovery.holdings(kept.store.root)
    stranger = (tmp_path / "stranger").read_text(encoding="ascii")
    with pytest.raises(sealed.Unsealed, match="can't be opened with this key"):
        inventory.reveal(Path(found["inventory"]), stranger)
    with pytest.raises(sealed.Unsealed, match="can't be opened with this key"):
        state.unpack(Path(found["state"]["control1"]["state"]), stranger, PART.paths, tmp_path / "new")
    assert not (tmp_path / "new").exists() and not any((tmp_path / "empty").glob("*"))


def test_a_copy_that_is_damaged_or_gone_is_a_failure(
    kept: Fleet, storage: Storage, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert offsite.run(kept.store, storage.settings) == 0
    record = files.read_json(kept.store.root / offsite.RECORD) or {}
    assert record["received"] == 0.0 and record["checked"] == record["copied"]
    pack = next(path for path in (storage.folder / "data").rglob("*") if path.is_file())
    content = bytearray(pack.read_bytes())
    content[len(content) // 2] ^= 1
    pack.chmod(0o600)
    pack.write_bytes(content)
    # On the day whose part it is in; each day reads another one back.
    day = 30000 - 30000 % 7 + bytes.fromhex(pack.name[:2])[0] % 7
    monkeypatch.setattr(time, "time", lambda: day * offsite.DAY)
    assert offsite.run(kept.store, storage.settings) == 1
    assert "not off-site" in capsys.readouterr().out

    files.write(kept.store.root / offsite.RECORD, '{"copied": 1.0}')
    shutil.rmtree(storage.folder)
    storage.folder.mkdir()
    assert offsite.run(kept.store, storage.settings) == 1
    assert "where one was before" in capsys.readouterr().out, "a copy that vanished is not quietly begun again"

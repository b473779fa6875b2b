"""TLS on three real servers under writes: its steps, who is refused, and the replacement of certificates and the CA.

In the order of the plays: servers one at a time, the primary last, then the clients; a CA is trusted before it issues.
The servers' options are those of the role's template.
"""

from __future__ import annotations

import gzip
import json
import secrets
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from pymongo.errors import (
    AutoReconnect,
    DuplicateKeyError,
    NotPrimaryError,
    ServerSelectionTimeoutError,
    WriteConcernError,
)

from phoenix.backup import copying, scratch, sender
from phoenix.backup import member as backup_member
from phoenix.backup import members as backup_members
from phoenix.backup.store import Config, Store
from phoenix.database import authority, certificate, replica_set, tls
from tests.database.members import MEMBERS, Set, Writer, three
from tests.harness import debian
from tests.harness.real_database import found, unpack
from tests.harness.waiting import wait_for
from tests.unit.shared import TOP, rendered

KEY = secrets.token_hex(32)
LOGIN = {"username": "__system", "password": KEY, "authSource": "local"}
Servers = dict[str, tuple[Path, Mapping[str, str] | None]]
TEMPLATE = TOP / "roles" / "mongodb" / "templates" / "mongod.conf.j2"


class Secure:
    """A set with a CA of its own, as on Phoenix's hosts: all trust one bundle, and each member has its certificate."""

    def __init__(self, members: Set) -> None:
        self.members, self.bundle = members, members.root / "bundle.pem"
        self.ca = authority.Authority(members.root / "ca", time.time())
        self.ca.create()
        self.trust()
        for member in MEMBERS:
            self.issue(member)

    def trust(self) -> None:
        self.bundle.write_text(self.ca.show()["bundle"])

    def path(self, member: str) -> Path:
        return self.members.root / f"{member}.pem"

    def issue(self, member: str) -> None:
        request = certificate.request(self.path(member))
        certificate.install(self.path(member), self.ca.sign(request, [member, "localhost"]), user="")

    def set_mode(self, member: str, mode: str) -> None:
        """The options of the template's, with this member's files, for its next start."""
        text = rendered(TEMPLATE, {"mongodb_tls": mode})
        assert tls.mode_of(text) == mode
        options = yaml.safe_load(text)["net"].get("tls", {})
        files = {"certificateKeyFile": self.path(member), "CAFile": self.bundle}
        flags = {name: files.get(name, value) for name, value in options.items()}
        self.members.options[member] = [
            f"--tls{name[0].upper()}{name[1:]}" + ("" if value is True else f"={value}")
            for name, value in flags.items()
        ]
        self.members.cas[member] = str(self.bundle) if options else ""

    def bring(self, mode: str) -> None:
        """As the role restarts members: one at a time, the primary last. Before and afterwards, the set is settled."""
        primary = self.members.primary()
        for member in sorted(MEMBERS, key=lambda one: one == primary):
            self.members.stop(member)
            self.set_mode(member, mode)
            self.members.start(member)
            self.members.settle()

    def load(self) -> None:
        """Have each server read what is new: the module database_certificates."""
        for member in MEMBERS:
            with self.members.client(member, **LOGIN) as client:
                client.admin.command("rotateCertificates")

    def refused(self, member: str, **options: Any) -> str:
        """Why a client can't connect; "" when it can."""
        try:
            with replica_set.client(member, self.members.port, serverSelectionTimeoutMS=3000, **options) as client:
                client.admin.command("ping")
        except ServerSelectionTimeoutError as error:
            return str(error)
        return ""


def attempted(call: Callable[[], object]) -> bool:
    try:
        call()
    except AutoReconnect:
        return False
    return True


class Patient(Writer):
    """Writes through elections too: a busy machine has more of them than the driver repeats a write for.

    Every so many documents with a new client, which connects and reads the CAs again; 0 for the same client throughout.
    """

    def __init__(self, members: Set, ca: str = "", renewed: int = 0) -> None:
        super().__init__(members, ca)
        self.renewed = renewed

    def write(self, number: int) -> None:
        if self.renewed and number % self.renewed == 0:
            self.client.close()
            self.client = self.members.connect(self.ca)
        end, there = time.monotonic() + 60, False
        while True:
            try:
                if not there:
                    super().write(number)
                else:
                    self.client.app[self.name].update_one({"_id": number}, {"$inc": {"again": 1}}, upsert=True)
            except (NotPrimaryError, WriteConcernError) as error:
                # The latter of a primary that stops, or loses the election, after it has written; "there" follows.
                again = isinstance(error, NotPrimaryError) or error.has_error_label("RetryableWriteError")
                if not again or time.monotonic() > end:
                    raise
                time.sleep(0.1)
            except DuplicateKeyError:
                # Of a primary that lost the election, perhaps, so that the next one has it not: only a majority counts.
                there = True
            else:
                return


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Servers:
    """The lab's two versions: the program of each, and its environment."""
    folder = tmp_path_factory.mktemp("mongod")
    environments = {"5.0.4": debian.for_former_mongodb(), "6.0.5": None}
    unpack(folder, *(f"mongodb-{version}" for version in environments))
    return {
        version: (folder / f"mongodb-{version}" / "bin" / "mongod", environment)
        for version, environment in environments.items()
    }


@contextmanager
def secured(server: tuple[Path, Mapping[str, str] | None], mode: str) -> Iterator[Secure]:
    """A new set, which may begin with any mode."""
    made: list[Secure] = []

    def prepare(members: Set) -> None:
        made.append(Secure(members))
        for member in MEMBERS:
            made[0].set_mode(member, mode)

    with three(server[0], KEY, server[1], prepare) as members:
        members.settle()
        yield made[0]


def test_each_step_under_writes(servers: Servers) -> None:
    """There and back. Clients change between the two modes that accept both, the next ones before the former end."""
    with secured(servers["6.0.5"], "disabled") as secure:
        ca = str(secure.bundle)
        plain, by_tls, back = Patient(secure.members), Patient(secure.members, ca), Patient(secure.members)
        with ExitStack() as later:
            with plain:
                secure.bring("allowTLS")
                secure.bring("preferTLS")
                later.enter_context(by_tls)
            secure.bring("requireTLS")
            assert all("closed" in secure.refused(member) for member in MEMBERS)
            secure.bring("preferTLS")
            with back:
                later.close()
                secure.bring("allowTLS")
                secure.bring("disabled")
                assert all(secure.refused(member, ca=ca) for member in MEMBERS)
        for writer in (plain, by_tls, back):
            writer.check()


@pytest.mark.parametrize("version", ["5.0.4", "6.0.5"])
def test_who_is_refused_and_what_is_replaced(servers: Servers, version: str, programs: Path, tmp_path: Path) -> None:
    with secured(servers[version], "requireTLS") as secure:
        refuses(secure, tmp_path)
        dumps(secure, programs, tmp_path)
        with Patient(secure.members, str(secure.bundle), renewed=4) as writer:
            with Patient(secure.members, str(secure.bundle)) as steady:
                replaces_certificates(secure)
                former = replaces_the_ca(secure)
            # Members among each other, too: each has to be let in again by the others.
            for member in MEMBERS:
                secure.members.restart(member)
                secure.members.settle()
        for one in (writer, steady):
            one.check(str(secure.bundle))
        (tmp_path / "former.pem").write_text(former)
        assert "certificate verify failed" in secure.refused(MEMBERS[0], ca=str(tmp_path / "former.pem"))


def refuses(secure: Secure, folder: Path) -> None:
    """One without TLS, one that trusts another CA, and one that asks for another server than this."""
    other = authority.Authority(folder / "other", time.time())
    other.create()
    (folder / "other.pem").write_text(other.show()["bundle"])
    for member in MEMBERS:
        assert secure.refused(member, ca=str(secure.bundle)) == ""
        assert "closed" in secure.refused(member)
        assert "certificate verify failed" in secure.refused(member, ca=str(folder / "other.pem"))
    # The second member with the certificate of the first.
    own, foreign = secure.path(MEMBERS[1]).read_bytes(), secure.path(MEMBERS[0]).read_bytes()
    for content, expected in ((foreign, "IP address mismatch"), (own, "")):
        secure.path(MEMBERS[1]).chmod(0o600)
        secure.path(MEMBERS[1]).write_bytes(content)
        with replica_set.client(
            MEMBERS[1], secure.members.port, str(secure.bundle), **LOGIN, tlsAllowInvalidHostnames=True
        ) as client:
            client.admin.command("rotateCertificates")
        assert expected in secure.refused(MEMBERS[1], ca=str(secure.bundle))


def dumps(secure: Secure, programs: Path, folder: Path) -> None:
    """What takes backups reaches the members, as it does on hosts."""
    secret = secrets.token_hex(8)
    order = {"createUser": "backup", "pwd": secret, "roles": ["root"], "writeConcern": {"w": 3}}
    with secure.members.connect(str(secure.bundle)) as client:
        # Unlike writes, the driver does not repeat a command when there is an election.
        wait_for(lambda: attempted(lambda: client.admin.command(order)), 60, "a user for backups")
        client.app.items.insert_one({"_id": 1})
    (folder / "password").write_text(json.dumps({"password": secret}))
    config = sender.Config(
        MEMBERS[0], "store", "fleet.example", "keys", MEMBERS[0], list(MEMBERS), secure.members.port, "backup", 30, 60,
        [], [], password=str(folder / "password"), mongod=MEMBERS[0], ca=str(secure.bundle),
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scratch, "TOOLS", found(programs, "mongodump").parent)
        done = subprocess.run(sender._dump_command(config), capture_output=True, check=False)
    assert done.returncode == 0 and done.stdout, done.stderr
    with sender.connect(config) as client:
        assert client.app.items.count_documents({}) == 1
    roles = {one.role for one in backup_member.look(config.members, config.port, config.ca)}
    assert roles == {"primary", "secondary"}
    login = {"username": "backup", "password": secret, **tls.options(config.ca)}
    assert all(room.free for room in backup_members.look(config.members, config.port, login))
    restores(secure, config, secret, found(programs, "mongorestore"), done.stdout, folder / "tools")


def restores(
    secure: Secure, config: sender.Config, secret: str, mongorestore: Path, archive: bytes, tools: Path
) -> None:
    """What a restore writes with reaches them, too. The archive stands for what is read from the scratch server."""
    tools.mkdir()
    (tools / "mongorestore").symlink_to(mongorestore)
    (tools / "archive").write_bytes(gzip.decompress(archive))
    (tools / "mongodump").write_text(f"#!/bin/sh\nexec cat {tools / 'archive'}\n")
    (tools / "mongodump").chmod(0o755)
    hosts = f"keys/{','.join(f'{member}:{config.port}' for member in MEMBERS)}"
    settings = Config("/", "", "keys", 7, 0, 0, 0, 30, 0.25, "", config.port, False, ca=config.ca)
    beside = ["--nsInclude=app.items", "--nsFrom=app.items", "--nsTo=app.copied"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scratch, "TOOLS", tools)
        copying.pipe(Store(settings), [], beside, {"username": "backup", "password": secret}, hosts)
    with secure.members.connect(config.ca) as client:
        assert client.app.copied.count_documents({}) == 1


def replaces_certificates(secure: Secure) -> None:
    """New keys and certificates of the same CA, read without a restart."""
    processes = {member: secure.members.servers[member].pid for member in MEMBERS}
    for member in MEMBERS:
        former = secure.path(member).read_text()
        secure.issue(member)
        assert not certificate.matches(former, secure.path(member).read_text())
    secure.load()
    for member in MEMBERS:
        shown = ssl.get_server_certificate((member, secure.members.port))
        assert certificate.matches(shown, secure.path(member).read_text())
        assert secure.members.servers[member].poll() is None
    assert processes == {member: secure.members.servers[member].pid for member in MEMBERS}


def replaces_the_ca(secure: Secure) -> str:
    """In the order of playbooks/rotate-database-tls.yml; returns the former CA."""
    former = secure.ca.show()["authority"]
    secure.ca.begin()
    secure.trust()
    secure.load()
    secure.ca.switch()
    for member in MEMBERS:
        secure.issue(member)
    secure.load()
    secure.members.settle()
    secure.ca.end()
    secure.trust()
    secure.load()
    for member in MEMBERS:
        shown = ssl.get_server_certificate((member, secure.members.port))
        assert certificate.issued_by(shown, secure.bundle.read_text()) and not certificate.issued_by(shown, former)
    return former

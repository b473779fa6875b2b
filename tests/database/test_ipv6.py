"""A member with an IPv6 address: the role's configuration, the set, an application's connection, MongoDB's tools."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pymongo
import pytest

from lab.ports import free_port
from phoenix.backup import member
from phoenix.common import endpoint
from phoenix.database import replica_set
from phoenix.fleet import uri
from tests.harness.real_database import found
from tests.unit.shared import TOP, rendered

OWN = "::1"
PASSWORD = "a/b:c"  # pragma: allowlist secret


@pytest.fixture
def port(programs: Path) -> Iterator[int]:
    root, number = Path(tempfile.mkdtemp(prefix="phx-")), free_port()
    text = rendered(
        TOP / "roles/mongodb/templates/mongod.conf.j2",
        {"mongodb_address": OWN, "mongodb_port": number, "mongodb_cache_gb": 0.25, "mongodb_oplog_mb": 50},
    )
    for theirs, ours in (("/var/lib/mongodb", root), ("/var/log/mongodb", root), ("/etc/mongod.key", root / "key")):
        text = text.replace(theirs, str(ours))
    (root / "key").write_text("c2VjcmV0" * 4)
    (root / "key").chmod(0o400)
    (root / "mongod.conf").write_text(re.sub("timeZoneInfo: .*", "timeZoneInfo: /usr/share/zoneinfo", text))
    server = subprocess.Popen([found(programs, "mongod"), "--config", root / "mongod.conf"], stdout=subprocess.DEVNULL)
    try:
        yield number
    finally:
        server.terminate()
        server.wait(60)
        shutil.rmtree(root)


def test_a_set_at_an_ipv6_address(port: int, programs: Path) -> None:
    members = [{"address": OWN}]
    with replica_set.client("127.0.0.1", port, serverSelectionTimeoutMS=30000) as local:
        configured = replica_set.configured_members(members, port)
        config = {"_id": "phoenix", "members": [{"_id": 0, "host": configured[0]["host"]}]}
        local.admin.command("replSetInitiate", config)
        state = replica_set.wait(OWN, port, [OWN], "primary", 60)
        assert (state.primary, state.silent, state.member) == (OWN, [], True)
        local.admin.command("createUser", "admin", pwd=PASSWORD, roles=["root"])
    (seen,) = member.look([OWN], port)
    assert (seen.address, seen.role) == (OWN, "primary")
    string = uri.mongodb_uri("admin", PASSWORD, members, port, "shop", "phoenix")
    with pymongo.MongoClient(string, serverSelectionTimeoutMS=15000) as client:
        client.shop.items.insert_one({"_id": 1})
        # As a restore is directed at the set.
        tools = [found(programs, name) for name in ("mongodump", "mongorestore")]
        login = ["--username=admin", f"--password={PASSWORD}", "--authenticationDatabase=admin"]
        hosts = f"--host=phoenix/{endpoint.of(OWN, port)}"
        dump = subprocess.run([tools[0], hosts, *login, "--db=shop", "--archive"], capture_output=True, check=True)
        client.drop_database("shop")
        subprocess.run([tools[1], hosts, *login, "--archive"], input=dump.stdout, capture_output=True, check=True)
        assert client.shop.items.count_documents({}) == 1
        assert time.time() - seen.written < 3600

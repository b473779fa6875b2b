"""The application's connection to a member with an IPv6 address, by the drivers that applications have.

A real server of 5.0, as the oldest driver writes to none that is newer.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lab.ports import free_port
from phoenix.database import authority, certificate, names, reconfigure, replica_set
from phoenix.fleet import uri, wiring
from tests.apps.conftest import DRIVERS, Drivers, unpack
from tests.harness import debian
from tests.harness.names import resolving

OWN = "::1"


def members(domain: str) -> list[dict[str, Any]]:
    return wiring.members(["db1"], {"db1": {"phoenix_address": OWN, "phoenix_database_domain": domain}})


NAMED = members("phoenix.internal")


@dataclass
class Set:
    """A set of one, which takes connections with TLS and without; its name is resolved only as on a fleet's hosts."""

    client: Any
    port: int
    bundle: Path
    prefix: list[str]
    drivers: Drivers

    def write(self, driver: str, known: list[dict[str, Any]], options: str = "") -> str:
        """What a program with this driver prints, which gets a fleet's connection string for these members."""
        string = uri.mongodb_uri("u", "p", known, self.port, "shop", "rs", options=options)
        string = string.replace("u:p@", "").replace("&authSource=admin", "")
        return self.drivers.write(driver, string, self.bundle, self.prefix)


@pytest.fixture
def members_set(tmp_path: Path, drivers: Drivers) -> Iterator[Set]:
    unpack("mongodb-5.0.4", tmp_path / "mongodb")
    (tmp_path / "db").mkdir()
    ca = authority.Authority(tmp_path / "ca", time.time())
    ca.create()
    bundle, pem, port = tmp_path / "trusted.pem", tmp_path / "server.pem", free_port()
    bundle.write_text(ca.show()["bundle"])
    certificate.install(pem, ca.sign(certificate.request(pem), ["127.0.0.1", names.known_as(NAMED[0])]), user="")
    prefix = resolving(tmp_path, names.addresses(NAMED))
    libraries = debian.library("bullseye", "libssl1.1", "libssl.so.1.1")
    server = subprocess.Popen(
        [*prefix, tmp_path / "mongodb/bin/mongod", f"--dbpath={tmp_path / 'db'}", f"--port={port}", "--ipv6",
         f"--bind_ip=127.0.0.1,{OWN}", "--replSet=rs", "--wiredTigerCacheSizeGB=0.25", "--tlsMode=preferTLS",
         f"--tlsCertificateKeyFile={pem}", f"--tlsCAFile={bundle}", "--tlsAllowConnectionsWithoutCertificates"],
        stdout=subprocess.DEVNULL, env={**os.environ, "LD_LIBRARY_PATH": str(libraries)},
    )  # fmt: skip
    try:
        with replica_set.client("127.0.0.1", port, serverSelectionTimeoutMS=60000) as client:
            yield Set(client, port, bundle, prefix, drivers)
    finally:
        server.terminate()
        server.wait(60)


def test_every_driver_reaches_a_member_that_is_known_by_its_name(members_set: Set) -> None:
    literal, client, port = members(""), members_set.client, members_set.port
    assert literal == [{"host": "db1", "address": OWN}]
    (own,) = replica_set.configured_members(literal, port)
    client.admin.command("replSetInitiate", {"_id": "rs", "members": [{"_id": 0, "host": own["host"]}]})
    replica_set.wait(OWN, port, [OWN], "primary", 60)
    assert "ENOTFOUND [::1]" in members_set.write("mongodb-3", literal)
    assert members_set.write("mongodb-4", literal) == "written"

    # As an update finds a set of before.
    wanted = replica_set.configured_members(NAMED, port)
    steps = reconfigure.reconfigure(client, wanted, {}, replica_set.former_hosts(NAMED, port))
    assert steps[0] == f"[::1]:{port}: known as db1.phoenix.internal:{port}"
    assert {driver: members_set.write(driver, NAMED) for driver in DRIVERS} == dict.fromkeys(DRIVERS, "written")
    verifying = {driver: members_set.write(driver, NAMED, "ssl=true") for driver in DRIVERS}
    assert verifying == dict.fromkeys(DRIVERS, "written")

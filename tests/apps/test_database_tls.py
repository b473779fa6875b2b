"""The application's connection to a database with TLS, by the drivers that applications have, as an instance gets it.

A real server of 5.0, as the oldest driver writes to none that is newer, and Node.js as it is with each driver.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from lab.ports import free_port
from phoenix.database import authority, certificate
from phoenix.fleet import uri
from tests.apps.conftest import Drivers, unpack
from tests.harness import debian
from tests.harness.waiting import wait_for
from tests.unit.shared import TOP, read_yaml, rendered

SETTINGS = read_yaml(TOP / "playbooks" / "group_vars" / "all" / "defaults.yml")
DEFAULT = f"{SETTINGS['phoenix_db_options']}&{SETTINGS['phoenix_db_tls_options']}"
MISMATCH = "altnames"


@dataclass
class Server:
    """One that requires TLS; its certificate is for 127.0.0.1, and it listens at 127.0.0.2 as well."""

    root: Path
    port: int
    drivers: Drivers

    def write(self, driver: str, options: str, trusted: str = "trusted", address: str = "127.0.0.1") -> str:
        """What a program with this driver prints, which trusts the CAs of a file."""
        string = uri.mongodb_uri("u", "p", [{"address": address}], self.port, "shop", "rs", options=options)
        string = string.replace("u:p@", "").replace("replicaSet=rs&authSource=admin&", "")
        return self.drivers.write(driver, string, self.root / f"{trusted}.pem")

    def write_each(self, driver: str, *ways: tuple[str, ...]) -> list[str]:
        """The same for several ways to connect, at once: a driver that does not get through tries for a while."""
        with ThreadPoolExecutor() as pool:
            return list(pool.map(lambda way: self.write(driver, *way), ways))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, drivers: Drivers) -> Iterator[Server]:
    root, programs = tmp_path_factory.mktemp("server"), tmp_path_factory.mktemp("programs")
    unpack("mongodb-5.0.4", programs / "mongodb")
    for name in ("own", "other"):
        ca = authority.Authority(root / name, time.time())
        ca.create()
        (root / f"{'trusted' if name == 'own' else name}.pem").write_text(ca.show()["bundle"])
    pem = root / "server.pem"
    own = authority.Authority(root / "own", time.time())
    certificate.install(pem, own.sign(certificate.request(pem), ["127.0.0.1"]), user="")
    settings = yaml.safe_load(rendered(TOP / "roles/mongodb/templates/mongod.conf.j2", {"mongodb_tls": "requireTLS"}))
    options = {**settings["net"]["tls"], "certificateKeyFile": str(pem), "CAFile": str(root / "trusted.pem")}
    made = Server(root, free_port(), drivers)
    net = {"port": made.port, "bindIp": "127.0.0.1,127.0.0.2", "unixDomainSocket": {"enabled": False}, "tls": options}
    (root / "db").mkdir()
    (root / "mongod.conf").write_text(yaml.safe_dump({"net": net, "storage": {"dbPath": str(root / "db")}}))
    with (root / "log").open("wb") as log:
        process = subprocess.Popen(
            [programs / "mongodb/bin/mongod", "--config", root / "mongod.conf"],
            stdout=log, env=debian.for_former_mongodb(),
        )  # fmt: skip
    try:
        wait_for(lambda: b"Waiting for connections" in (root / "log").read_bytes(), 60, "the server listens")
        yield made
    finally:
        process.terminate()
        process.wait(60)


@pytest.mark.parametrize("driver", ["mongodb-3", "mongodb-4", "mongodb-5", "mongodb-6"])
def test_a_driver_encrypts_and_verifies_with_the_default(server: Server, driver: str) -> None:
    right, other, name, plain = server.write_each(
        driver, (DEFAULT,), (DEFAULT, "other"), (DEFAULT, "trusted", "127.0.0.2"), ("",)
    )
    assert right == "written"
    assert "certificate in certificate chain" in other, other
    assert MISMATCH in name, name
    assert plain != "written", "the server accepts TLS alone"


def test_the_driver_of_the_first_applications_verifies_when_it_is_told_to(server: Server) -> None:
    """With the default it encrypts, and accepts any server."""
    verified = f"{DEFAULT}&sslValidate=true"
    right, accepted, plain, misnamed, verifying, other, name = server.write_each(
        "mongodb-2.2",
        (DEFAULT,),
        (DEFAULT, "other"),
        ("",),
        ("tls=true",),
        (verified,),
        (verified, "other"),
        (verified, "trusted", "127.0.0.2"),
    )
    assert (right, accepted, verifying) == ("written", "written", "written")
    assert plain != "written"
    assert misnamed != "written", "known to it by another name than to its successors"
    assert "certificate in certificate chain" in other, other
    assert MISMATCH in name, name


def test_the_newest_driver_refuses_what_the_oldest_one_needs(server: Server) -> None:
    assert "sslvalidate is not supported" in server.write("mongodb-6", f"{DEFAULT}&sslValidate=true")

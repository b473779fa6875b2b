"""An application's reads while the primary is silent: its connections do not end, as where its host lost power.

Three real servers, and the options that the application's connection string has by default.
"""

from __future__ import annotations

import json
import secrets
import signal
import time
from collections.abc import Iterator

import pytest

from phoenix.fleet import uri
from tests.apps.conftest import DRIVERS, Drivers, unpack
from tests.database.members import MEMBERS, Set, three
from tests.unit.shared import TOP, read_yaml

DEFAULT = read_yaml(TOP / "playbooks" / "group_vars" / "all" / "defaults.yml")["phoenix_db_options"]
# For the last answers. A read that waits for one of five connections takes longer.
PATIENCE_S = 60


@pytest.fixture(scope="module")
def members(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Set]:
    programs = tmp_path_factory.mktemp("programs")
    unpack("mongodb-6.0.5", programs)
    with three(programs / "bin" / "mongod", secrets.token_hex(32)) as made:
        yield made


@pytest.mark.parametrize("driver", ["mongodb-3", DRIVERS[-1]])
def test_every_read_is_answered(driver: str, members: Set, drivers: Drivers) -> None:
    members.settle()
    seeds = [{"address": member} for member in MEMBERS]
    string = uri.mongodb_uri("__system", members.key, seeds, members.port, "shop", "keys", "local", DEFAULT)
    primary = members.primary()
    with drivers.start(driver, "read.js", str(PATIENCE_S), string=string) as program:
        assert program.stdout and program.stdout.readline() == "reading\n"
        time.sleep(1)
        members.servers[primary].send_signal(signal.SIGSTOP)
        try:
            assert members.primary() != primary
            output, errors = program.communicate(timeout=3 * PATIENCE_S)
        finally:
            members.servers[primary].send_signal(signal.SIGCONT)
    count = json.loads(output)
    assert count["answered"] and count == {**count, "failed": 0, "waiting": 0}, errors

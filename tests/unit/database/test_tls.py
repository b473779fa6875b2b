"""The modes of TLS, the steps between them, and that nothing is there without it."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import pytest

from phoenix.database import tls
from tests.unit.shared import TOP, rendered

TEMPLATES = TOP / "roles" / "mongodb" / "templates"


def configuration(mode: str) -> str:
    return rendered(TEMPLATES / "mongod.conf.j2", {"mongodb_tls": mode})


@pytest.mark.parametrize(("present", "wanted"), [*itertools.product(tls.MODES, tls.MODES)])
def test_a_fleet_that_runs_takes_one_step_at_a_time(present: str, wanted: str) -> None:
    refusal = tls.step_refusal(wanted, "db1", configuration(present))
    distance = tls.MODES.index(wanted) - tls.MODES.index(present)
    assert bool(refusal) == (abs(distance) > 1)
    if refusal:
        step = tls.MODES[tls.MODES.index(present) + (1 if distance > 0 else -1)]
        assert (
            f"mongodb_tls = {wanted} " in refusal and "db1 runs" in refusal and f"Set mongodb_tls = {step} " in refusal
        )


@pytest.mark.parametrize("wanted", tls.MODES)
def test_a_new_fleet_begins_with_any(wanted: str) -> None:
    assert tls.step_refusal(wanted, "db1", "") == ""


def test_a_server_of_before_runs_without() -> None:
    assert "Set mongodb_tls = allowTLS" in tls.step_refusal("preferTLS", "db1", "running")


def test_clients_change_between_the_two_modes_that_accept_both() -> None:
    assert [mode for mode in tls.MODES if tls.used(mode)] == ["preferTLS", "requireTLS"]
    with pytest.raises(ValueError, match="prefertls"):
        tls.used("prefertls")


def test_without_tls_nothing_is_configured() -> None:
    assert "tls" not in configuration("disabled") and tls.mode_of(configuration("disabled")) == "disabled"
    unit = TEMPLATES / "mongod.service.j2"
    assert "mongod.conf" not in rendered(unit).replace("--config /etc/mongod.conf", "")
    assert "/run/mongodb/mongod.conf" in rendered(unit, {"mongodb_tls": "allowTLS"})
    assert (tls.options(""), tls.tool_options("")) == ({}, [])


def test_with_it_clients_verify_the_server() -> None:
    assert tls.options("/ca.pem") == {"tls": True, "tlsCAFile": "/ca.pem"}
    assert tls.tool_options("/ca.pem") == ["--ssl", "--sslCAFile=/ca.pem"]


def test_what_is_newer_than_its_reader_is_unread(tmp_path: Path) -> None:
    """A link counts by itself: what it leads to may be older."""
    for second, name in enumerate(("bundle", "started", "loaded", "certificate"), 1):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (second, second))
    link = tmp_path / "link"
    link.symlink_to("bundle")
    os.utime(link, (4, 4), follow_symlinks=False)
    files = [tmp_path / "bundle", tmp_path / "certificate", link]
    assert tls.unread(files, [tmp_path / "started", tmp_path / "loaded"]) == [tmp_path / "certificate", link]
    os.utime(tmp_path / "loaded", (5, 5))
    assert tls.unread(files, [tmp_path / "started", tmp_path / "loaded"]) == []
    assert tls.unread(files, [tmp_path / "started", tmp_path / "missing"]) == [tmp_path / "certificate", link]

"""The fleet's desired state: what is recorded, what is refused, and what is rebuilt from the fleet."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from phoenix.state import desired, lock, rebuild

OLD, NEW = "0" * 12, "1" * 12


@pytest.mark.parametrize(("text", "capacity"), [("2\n", 2), ("12", 12), (" 7 \n", 7)])
def test_reads_the_capacity(tmp_path: Path, text: str, capacity: int) -> None:
    (tmp_path / "capacity").write_text(text)
    assert desired.read_capacity(tmp_path) == capacity


def test_nothing_recorded_is_not_a_default(tmp_path: Path) -> None:
    state = desired.read(tmp_path)
    assert (state["capacity"], state["release"], state["configuration"], state["drained"]) == (None, None, None, {})
    assert sorted(state["lost"]) == ["capacity", "configuration", "release"]


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"0", b"-2", b"two", b"2 3", b"6.7", b"\x00\xff\x81", b"9" * 20, "٣".encode()]
)
def test_a_damaged_capacity(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "capacity").write_bytes(content)
    with pytest.raises(desired.Corrupt):
        desired.read_capacity(tmp_path)
    assert "instead of a number" in desired.read(tmp_path)["lost"]["capacity"]
    assert desired.record("capacity", "3", tmp_path)
    assert desired.read_capacity(tmp_path) == 3
    assert (tmp_path / "capacity.corrupt").read_bytes() == content


def test_a_file_that_cannot_be_read_is_an_error_and_no_loss(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "capacity").mkdir()
    assert desired.main(["--folder", str(tmp_path), "show"]) == 1
    assert "can't be used" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("capacity", "0"),
        ("capacity", "many"),
        ("release", "../etc"),
        ("release", ""),
        ("configuration", OLD),
        ("configuration", '{"app1": "new"}'),
    ],
)
def test_a_value_that_is_not_valid_is_not_recorded(tmp_path: Path, name: str, value: str) -> None:
    assert desired.main(["--folder", str(tmp_path), "record", name, value]) == desired.USAGE
    assert not (tmp_path / name).exists()


def test_what_is_recorded_meanwhile_wins_over_what_is_rebuilt(tmp_path: Path) -> None:
    assert desired.record("capacity", "6", tmp_path, if_lost=True)
    assert not desired.record("capacity", "2", tmp_path, if_lost=True)
    assert not desired.record("capacity", "6", tmp_path)
    assert desired.read_capacity(tmp_path) == 6


def test_exactly_the_named_servers_are_out_and_keep_their_reasons(tmp_path: Path) -> None:
    desired.drain(["192.0.2.21:3000"], "fails", tmp_path)
    desired.drain(["192.0.2.21:3000", "192.0.2.22:3000"], "is switched", tmp_path)
    assert desired.read_drained(tmp_path) == {"192.0.2.21:3000": "fails", "192.0.2.22:3000": "is switched"}
    words = ["--reason", "x", "--too", "192.0.2.23:3000", "--too", "192.0.2.22:3000", "--reason-too", "silent"]
    assert desired.main(["--folder", str(tmp_path), "drain", *words, "192.0.2.21:3000"]) == 0
    expected = {"192.0.2.21:3000": "fails", "192.0.2.22:3000": "is switched", "192.0.2.23:3000": "silent"}
    assert desired.read_drained(tmp_path) == expected
    desired.drain([], "", tmp_path)
    assert desired.read_drained(tmp_path) == {}


def test_a_play_that_lost_the_lock_takes_nothing_out_of_rotation(tmp_path: Path) -> None:
    token, _ = lock.acquire(tmp_path, "ann", "deploy", 60)
    words = ["--folder", str(tmp_path), "drain", "--lease", "60", "--token"]
    assert desired.main([*words, token, "192.0.2.21:3000"]) == 0
    lock.release(tmp_path, token)
    lock.acquire(tmp_path, "bob", "scale", 60)
    assert desired.main([*words, token, "192.0.2.22:3000"]) == lock.LOST
    assert list(desired.read_drained(tmp_path)) == ["192.0.2.21:3000"]


def test_a_damaged_list_of_servers_stops_every_reader_and_is_replaced_by_hand(tmp_path: Path) -> None:
    (tmp_path / "drained.json").write_text('{"app1": "?"}')
    assert desired.main(["--folder", str(tmp_path), "show"]) == 1
    assert desired.main(["--folder", str(tmp_path), "drain"]) == 0
    assert desired.read_drained(tmp_path) == {}


# --- what is lost is rebuilt from what runs

GONE = {"capacity": "gone", "release": "gone", "configuration": "gone"}
LOST: dict[str, Any] = {**dict.fromkeys(GONE), "drained": {}, "lost": GONE}
HOSTS, STANDBY = ["app1", "app2"], ["app3"]


def instance(port: int, release: str = "r1", active: bool = True, healthy: bool = True) -> dict[str, Any]:
    return {"port": port, "release": release, "active": active, "healthy": healthy, "stale": False}


def status(*instances: dict[str, Any]) -> dict[str, Any]:
    return {"current": "r1", "instances": list(instances)}


TWO = status(instance(3000), instance(3001))


@pytest.mark.parametrize(
    ("seen", "capacity", "release"),
    [
        # A fleet that runs nothing: the initial capacity, no release.
        ({"app1": {}, "app2": status(), "app3": {}}, 2, ""),
        ({"app1": status(instance(3000, active=False)), "app2": {}, "app3": {}}, 2, ""),
        # What runs is what was wanted.
        ({"app1": TWO, "app2": TWO, "app3": {}}, 4, "r1"),
        # Spares don't count.
        ({"app1": status(instance(3000), instance(3900)), "app2": status(), "app3": {}}, 1, "r1"),
        # No instance that runs is stopped by it, wherever it is.
        ({"app1": status(instance(3000)), "app2": status(instance(3001)), "app3": {}}, 4, "r1"),
        # A host that is silent takes nothing away from the others.
        ({"app1": None, "app2": status(instance(3000), instance(3001)), "app3": None}, 4, "r1"),
        # Most of them; one that never became healthy has served nobody.
        ({"app1": status(instance(3000), instance(3001, "r2")), "app2": status(instance(3000)), "app3": {}}, 3, "r1"),
        ({"app1": status(instance(3000, "bad", healthy=False)), "app2": status(), "app3": {}}, 1, ""),
    ],
)  # fmt: skip
def test_rebuilt(seen: dict[str, Any], capacity: int, release: str) -> None:
    rebuilt = rebuild.rebuild(LOST, seen, HOSTS, STANDBY, 2)
    assert (rebuilt["capacity"], rebuilt["release"]) == (capacity, release)


def test_what_balancers_have_down_stays_out_of_rotation_where_no_record_is_left() -> None:
    answers: list[dict[str, Any]] = [
        {"rc": 0, "stdout": '["192.0.2.1:3001"]'},
        {"rc": 0, "stdout": "[]"},
        {"unreachable": True},
        {"rc": 2},
    ]
    down = rebuild.marked(answers)
    seen = {"app1": status(instance(3000), instance(3001))}
    rebuilt = rebuild.rebuild(LOST, seen, HOSTS, STANDBY, 2, down=down)
    assert rebuilt["drained"] == {"192.0.2.1:3001": "out of rotation when the record was rebuilt"}
    recorded = {"192.0.2.1:3000": "by hand"}
    assert rebuild.rebuild({**LOST, "drained": recorded}, seen, HOSTS, STANDBY, 2, down=down)["drained"] == recorded


def test_silence_is_not_an_empty_fleet() -> None:
    with pytest.raises(rebuild.Unknown, match=r"app2 can't be reached"):
        rebuild.rebuild(LOST, {"app1": {}, "app2": None, "app3": {}}, HOSTS, STANDBY, 2)


def test_what_is_recorded_is_kept() -> None:
    state = {**LOST, "capacity": 6, "configuration": {}, "lost": {"release": "gone"}}
    rebuilt = rebuild.rebuild(state, {"app1": status(instance(3000))}, HOSTS, STANDBY, 2)
    assert (rebuilt["capacity"], rebuilt["release"], rebuilt["rebuilt"]) == (6, "r1", ["release"])


def test_the_configurations_of_hosts_are_recorded_by_content_whatever_their_order(tmp_path: Path) -> None:
    assert desired.record("configuration", f'{{"app2": "{OLD}", "app1": "{OLD}"}}', tmp_path)
    assert not desired.record("configuration", f'{{"app1": "{OLD}", "app2": "{OLD}"}}', tmp_path)
    assert desired.read_configuration(tmp_path) == {"app1": OLD, "app2": OLD}
    assert f"configuration: {OLD} on app1, app2" in desired.describe(desired.read(tmp_path))


def test_a_configuration_that_never_became_healthy_is_not_the_accepted_one() -> None:
    """Most of a host's healthy instances have it; a host without instances has what it accepted."""
    running = [{**instance(3000), "configuration": OLD}, {**instance(3001, healthy=False), "configuration": NEW}]
    seen = {
        "app1": {**status(*running, {**instance(3002, healthy=False), "configuration": NEW}), "configuration": NEW},
        "app2": {**status(), "configuration": OLD},
        "app3": {},
    }
    rebuilt = rebuild.rebuild({**LOST, "capacity": 3, "release": "r1"}, seen, HOSTS, STANDBY, 2)
    assert rebuilt["configuration"] == {"app1": OLD, "app2": OLD}
    assert "configuration" in rebuilt["rebuilt"]


def test_answers_of_hosts() -> None:
    results: list[dict[str, Any]] = [
        {"item": "app1", "stdout": json.dumps(status())},
        {"item": "app2", "unreachable": True},
        {"item": "app3", "stdout": "skipped, since /usr/local/bin/phoenixctl does not exist"},
    ]
    assert rebuild.statuses(results) == {"app1": status(), "app2": None, "app3": {}}
    with pytest.raises(rebuild.Unknown, match="app1 can't report"):
        rebuild.statuses([{"item": "app1", "rc": 1, "stderr": "Traceback"}])


def test_a_control_host_without_phoenixctl_has_recorded_nothing(tmp_path: Path) -> None:
    assert rebuild.understand("skipped, since it does not exist")["capacity"] is None
    assert rebuild.understand(json.dumps(desired.read(tmp_path)))["release"] is None


def test_maintenance_is_recorded_until_it_is_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert desired.read(tmp_path)["maintenance"] is False
    for value in ("on", "off"):
        for changed in (True, False):
            assert desired.main(["--folder", str(tmp_path), "maintenance", value]) == 0
            assert json.loads(capsys.readouterr().out) == {"changed": changed}
        assert desired.read(tmp_path)["maintenance"] is (value == "on")
        assert ("maintenance: on" in desired.describe(desired.read(tmp_path))) is (value == "on")


def test_a_control_with_an_older_phoenixctl_knows_of_no_maintenance() -> None:
    shown = json.dumps({"capacity": 2, "release": "1", "drained": {}, "lost": {}})
    assert rebuild.understand(shown)["maintenance"] is False


def test_several_values_are_recorded_at_once_or_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = ["--folder", str(tmp_path), "record"]
    assert desired.main([*record, "release", "1.0", "configuration", "not JSON"]) == desired.USAGE
    assert desired.main([*record, "release", "1.0", "configuration"]) == desired.USAGE
    assert desired.main([*record, "releases", "1.0"]) == desired.USAGE
    assert desired.read(tmp_path)["release"] is None
    for expected in (True, False):
        capsys.readouterr()
        assert desired.main([*record, "release", "1.0", "configuration", '{"app1": "0123456789ab"}']) == 0
        assert json.loads(capsys.readouterr().out) == {"changed": expected}
    assert desired.read(tmp_path)["configuration"] == {"app1": "0123456789ab"}

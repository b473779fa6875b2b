"""Configurations that the autoscaler accepts, and its messages about others."""

from pathlib import Path

import pytest

from phoenix.autoscaler import config
from phoenix.autoscaler.cli import main

GOOD = """
policy: {maximum: 12}
listen: {address: 0.0.0.0, port: 5140, balancers: [192.0.2.11]}
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "autoscaler.yml"
    path.write_text(text)
    return path


def test_defaults(tmp_path: Path) -> None:
    loaded = config.load(written(tmp_path, GOOD))
    assert (loaded.policy.target, loaded.policy.minimum, loaded.policy.maximum) == (10, 1, 12)
    assert loaded.policy.stable_seconds == 30
    assert loaded.policy.panic_seconds == 6


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (GOOD.replace("maximum: 12", "maximum: 12, targett: 3"), "policy.targett: unknown key (value: 3)"),
        (GOOD.replace("maximum: 12", "maximum: 0"), "policy.maximum"),
        (GOOD.replace("maximum: 12", "maximum: 2, minimum: 3"), "minimum 3 is above maximum 2"),
        (GOOD.replace("maximum: 12", "maximum: 2, stable_seconds: 600"), "must increase in this order"),
        (GOOD + "schedule: [{cron: 0 8 * *, minutes: 5, minimum: 3}]", "schedule[0].cron: '0 8 * *' is not a cron"),
        (GOOD + "schedule_timezone: Mars/Base", "schedule_timezone: 'Mars/Base' is not a time zone"),
        (GOOD + "rooms: 4", "rooms: unknown key (value: 4)"),
        (GOOD.replace("maximum: 12", "maximum: 12, minimum: 5") + "room: 4", "minimum 5 is above room 4"),
        (GOOD.replace("[192.0.2.11]", "[]"), "listen.balancers"),
        (GOOD.replace("192.0.2.11", "lb1"), "listen.balancers.0"),
        (GOOD.replace("5140", "0"), "listen.port"),
        ("policy: [", "can't be read"),
        ("", "error"),
        ("- 1", "error"),
    ],
)
def test_refused(tmp_path: Path, text: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path, text)
    with pytest.raises(ValueError, match=r"autoscaler\.yml") as refused:
        config.load(path)
    assert said in str(refused.value)
    assert main(["validate", "--config", str(path)]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(("room", "maximum"), [("", 12), ("room: 12", 12), ("room: 20", 12), ("room: 8", 8)])
def test_the_maximum_is_what_the_hosts_hold(tmp_path: Path, room: str, maximum: int) -> None:
    loaded = config.load(written(tmp_path, GOOD + room))
    settings, warning = loaded.placeable()
    assert settings.maximum == maximum
    assert loaded.policy.maximum == 12
    assert bool(warning) == (maximum < 12)
    assert not warning or ("autoscaler_maximum is 12" in warning and "8 instances" in warning)


def test_validates_without_starting(tmp_path: Path) -> None:
    assert main(["validate", "--config", str(written(tmp_path, GOOD))]) == 0
    assert main(["validate", "--config", str(tmp_path / "absent")]) == 2

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
    assert loaded.policy.stable_seconds == 60
    assert loaded.policy.panic_seconds == 6


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (GOOD.replace("maximum: 12", "maximum: 12, targett: 3"), "policy.targett: Extra inputs are not permitted"),
        (GOOD.replace("maximum: 12", "maximum: 0"), "policy.maximum"),
        (GOOD.replace("maximum: 12", "maximum: 2, minimum: 3"), "minimum 3 is above maximum 2"),
        (GOOD.replace("maximum: 12", "maximum: 2, stable_seconds: 600"), "have to grow in this order"),
        (GOOD.replace("[192.0.2.11]", "[]"), "listen.balancers"),
        (GOOD.replace("192.0.2.11", "lb1"), "listen.balancers.0"),
        (GOOD.replace("5140", "0"), "listen.port"),
        ("policy: [", "can't be read"),
        ("", "fault"),
        ("- 1", "fault"),
    ],
)
def test_refused(tmp_path: Path, text: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path, text)
    with pytest.raises(ValueError, match=r"autoscaler\.yml") as refused:
        config.load(path)
    assert said in str(refused.value)
    assert main(["validate", "--config", str(path)]) == 2
    assert said in capsys.readouterr().err


def test_validates_without_starting(tmp_path: Path) -> None:
    assert main(["validate", "--config", str(written(tmp_path, GOOD))]) == 0
    assert main(["validate", "--config", str(tmp_path / "absent")]) == 2

"""One real alarm, from Netdata's evaluation to what the recipients got."""

from __future__ import annotations

from drills.model import Drill, Scene


def follow_an_alarm(scene: Scene) -> dict[str, float]:
    scene.play("alert-test")
    return {}


DRILLS = [Drill("alarm-test", ("Alarms in general", "Alarm: phoenix_test"), follow_an_alarm)]

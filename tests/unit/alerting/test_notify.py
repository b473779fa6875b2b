"""What is reported: decisions of the notifier, without a clock or a network."""

import json
import random
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from phoenix.alerting import channels, files
from phoenix.alerting import event as hook
from phoenix.alerting.decide import decide
from phoenix.alerting.incidents import Settings, State
from phoenix.alerting.messages import lasted
from phoenix.alerting.netdata import LOST_S, missed

SETTINGS = Settings()


def event(
    status: str, when: float, host: str = "app1", alarm: str = "phoenix_service_cpu", **more: str
) -> dict[str, str]:
    names = {"role": "application", "host": host, "alarm": alarm, "chart": "phoenix_cpu.phoenix@3000"}
    return {**names, "status": status, "when": str(when), "value": "99 %", "info": "CPU | above 80 %", **more}


def play(
    events: Sequence[tuple[float, dict[str, str]]], until: float, settings: Any = SETTINGS, every: float = 0.5
) -> list[Any]:
    """Return the messages of a run that steps every so many seconds and passes events on when they are due."""
    state, messages, now = State(), [], 0.0
    while now < until:
        now += every
        due = [e for at, e in events if now - every < at <= now]
        state, new = decide(state, due, now, settings)
        messages += new
    return messages


def test_one_message_and_one_clear_with_its_duration() -> None:
    messages = play([(10, event("WARNING", 10)), (130, event("CLEAR", 85))], 200)
    assert [a["event"] for m in messages for a in m.alarms] == ["raised", "cleared"]
    assert messages[1].alarms[0]["lasted"] == "1 min 15 s"
    assert "CLEAR after 1 min 15 s: app1: CPU (phoenix@3000)" in messages[1].subject


def test_a_message_has_host_value_threshold_since_and_runbook() -> None:
    (message,) = play([(10, event("WARNING", 10))], 60)
    for piece in ("app1", "99 %", "above 80 %", "1970-01-01 00:00:10 UTC", "docs/runbook.md#alarm-phoenix_service_cpu"):
        assert piece in message.text
    assert message.created == pytest.approx(13, abs=1)


def test_the_same_status_again_is_no_news() -> None:
    messages = play([(10 + i, event("WARNING", 10 + i)) for i in range(50)], 200)
    assert len(messages) == 1


def test_worse_is_reported_and_better_is_not() -> None:
    events = [(10, event("WARNING", 10)), (40, event("CRITICAL", 40)), (70, event("WARNING", 70))]
    assert [m.alarms[0]["event"] for m in play(events, 200)] == ["raised", "worse"]


def test_critical_is_reminded_of_and_warning_is_not() -> None:
    settings = Settings(remind_seconds=600)
    for status, expected in (("CRITICAL", ["raised", "reminder", "reminder"]), ("WARNING", ["raised"])):
        messages = play([(10, event(status, 10))], 1500, settings)
        assert [m.alarms[0]["event"] for m in messages] == expected


def test_back_before_the_clear_was_reported_is_the_same_incident() -> None:
    events = [(10, event("WARNING", 10)), (40, event("CLEAR", 40)), (41, event("WARNING", 41))]
    assert [m.alarms[0]["event"] for m in play(events, 200)] == ["raised"]


def test_came_and_went_is_one_message() -> None:
    messages = play([(10, event("WARNING", 10)), (11, event("CLEAR", 11))], 60)
    assert [a["event"] for m in messages for a in m.alarms] == ["brief"]


def test_what_comes_together_is_one_message_the_most_severe_first() -> None:
    events = [(10 + i / 10, event("WARNING", 10, host=f"h{i}")) for i in range(9)]
    events.append((11.0, event("CRITICAL", 11, host="z1")))
    (message,) = play(events, 60)
    assert len(message.alarms) == 10
    assert message.alarms[0]["host"] == "z1"
    assert "(and 9 more)" in message.subject


def test_a_storm_ends_in_few_messages_that_hold_all_of_it() -> None:
    choice = random.Random(1)
    events = [(choice.uniform(10, 310), event("WARNING", 10, host=f"h{i}", alarm=f"a{i % 7}")) for i in range(300)]
    messages = play(sorted(events, key=lambda pair: pair[0]), 500, every=2)
    assert sum(len(m.alarms) for m in messages) == 300
    assert len(messages) <= SETTINGS.burst + 500 / SETTINGS.refill_seconds


def test_roles_do_not_share_a_message() -> None:
    messages = play([(10, event("WARNING", 10)), (10, event("WARNING", 10, host="db1", role="database"))], 60)
    assert sorted(m.role for m in messages) == ["application", "database"]


def test_a_clear_of_nothing_and_a_removed_alarm_are_not_reported() -> None:
    assert play([(10, event("CLEAR", 10)), (20, event("REMOVED", 20))], 60) == []


def test_state_survives_a_restart() -> None:
    state, _ = decide(State(), [event("CRITICAL", 10)], 10, SETTINGS)
    state, (message,) = decide(state, [], 14, SETTINGS)
    again = State.load(json.loads(json.dumps(asdict(state))))
    assert again == state
    assert decide(again, [event("CRITICAL", 10)], 20, SETTINGS)[1] == []
    assert message.alarms[0]["event"] == "raised"


def test_a_state_of_another_version_is_read() -> None:
    state, _ = decide(State(), [event("CRITICAL", 10)], 10, SETTINGS)
    data = asdict(state)
    (incident,) = data["incidents"].values()
    incident["more"] = 1
    assert State.load(data) == state
    del incident["host"]
    assert State.load(data).incidents == {}


def test_a_state_with_the_former_names_is_read() -> None:
    state, _ = decide(State(), [event("CRITICAL", 10)], 10, SETTINGS)
    state, _ = decide(state, [], 14, SETTINGS)
    data = asdict(state)
    (incident,) = data["incidents"].values()
    incident["told"], incident["told_status"] = incident.pop("reported"), incident.pop("reported_status")
    assert (incident["told"], incident["told_status"]) == (14, "CRITICAL")
    assert State.load(json.loads(json.dumps(data))) == state
    assert decide(State.load(data), [], 60, SETTINGS)[1] == [], "not reported again"


KEY = "app1/phoenix_cpu.phoenix@3000/phoenix_service_cpu"


def test_a_clear_that_netdata_never_sent_comes_after_a_while() -> None:
    state, _ = decide(State(), [event("WARNING", 10)], 20, SETTINGS)
    assert missed(state, {"app1": {KEY: event("WARNING", 10)}}, 100) == []
    assert missed(state, {"app1": None}, 2000) == [], "Netdata did not answer: nothing is known"
    assert missed(state, {"app1": {}}, 2000) == []
    (gone,) = missed(state, {"app1": {}}, 2000 + LOST_S)
    assert (gone["status"], gone["when"]) == ("CLEAR", "2000")


def test_a_raise_that_was_lost_is_reported_all_the_same() -> None:
    active = {"app1": {KEY: event("WARNING", 10)}}
    assert missed(State(), active, 30) == [], "it may be on its way"
    lost = missed(State(), active, 100)
    assert lost == [event("WARNING", 10)]
    state, _ = decide(State(), lost, 100, SETTINGS)
    assert missed(state, active, 200) == []


def test_retries_slow_down() -> None:
    delays = [channels.retry_delay(attempts) for attempts in range(1, 12)]
    assert delays == sorted(delays)
    assert (delays[0], delays[-1]) == (5.0, 60.0)


@pytest.mark.parametrize(("seconds", "text"), [(0, "0 s"), (75, "1 min 15 s"), (86400 + 3, "1 d 3 s"), (7200, "2 h")])
def test_durations_for_people(seconds: float, text: str) -> None:
    assert lasted(seconds) == text


def test_an_undelivered_message_waits_in_its_file_and_the_failure_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "FOLDER", tmp_path)
    answers: list[Any] = [OSError("refused"), "accepted"]

    def send(_config: Any, _message: Any) -> str:
        answer = answers.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return str(answer)

    monkeypatch.setitem(channels.SENDERS, "webhook", send)
    channel = channels.Channel("hook", {"type": "webhook"}, Settings(give_up_seconds=1e12), lambda *_: None)
    _, (message,) = decide(*_ripe())
    channel.put(message)
    (path,) = channel.waiting()
    assert not channel.attempt(path)
    assert (channel.failed, len(channel.waiting())) == (1, 1)
    assert channels.Channel("hook", {"type": "webhook"}, SETTINGS, lambda *_: None).waiting() == [path], (
        "a restart finds it"
    )
    assert channel.attempt(path)
    assert (channel.delivered, channel.waiting()) == (1, [])


def _ripe() -> tuple[Any, list[dict[str, str]], float, Any]:
    state, _ = decide(State(), [event("WARNING", 10)], 10, SETTINGS)
    return state, [], 20.0, SETTINGS


def test_netdatas_arguments_are_understood() -> None:
    # As Netdata 1.37 calls it.
    arguments = [
        *("application", "app1", "1", "2", "3", "1795524083", "phoenix_service_cpu", "phoenix_cpu.phoenix_3000"),
        *("phoenix@3000", "WARNING", "CLEAR", "88.6", "7.2", "12@/etc/netdata/health.d/phoenix.conf", "40", "0"),
        *("% of one core", "CPU of a service | above 80 %", "88.6% of one core", "7.2% of one core", "", "", "1", "0"),
    ]
    seen = hook.event(arguments)
    assert seen["info"] == "CPU of a service | above 80 %"
    assert seen["value"] == "88.6% of one core"
    assert (seen["alarm"], seen["status"], seen["when"]) == ("phoenix_service_cpu", "WARNING", "1795524083")

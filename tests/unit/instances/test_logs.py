"""Lines of the journal, of one host and of several."""

from __future__ import annotations

import json
from typing import Any

from phoenix.instances import logs


def entry(when: int, message: Any, host: str = "app1", unit: str = "phoenix-3000") -> str:
    return json.dumps(
        {"__REALTIME_TIMESTAMP": str(when), "MESSAGE": message, "_HOSTNAME": host, "SYSLOG_IDENTIFIER": unit}
    )


def test_each_line_of_a_message_says_when_and_where() -> None:
    assert list(logs.lines([entry(1_700_000_000_000_001, "one\ntwo"), "{", entry(1_700_000_001_000_000, None)])) == [
        "2023-11-14T22:13:20.000001Z app1 phoenix-3000 one\n2023-11-14T22:13:20.000001Z app1 phoenix-3000 two",
        "2023-11-14T22:13:21.000000Z app1 phoenix-3000",
    ]


def test_a_message_that_is_not_text_is_shown_as_far_as_it_is() -> None:
    assert logs.line(json.loads(entry(0, [97, 255]))).endswith(" a\N{REPLACEMENT CHARACTER}")


def test_lines_of_several_hosts_are_in_the_order_of_their_times() -> None:
    one = "2023-11-14T22:13:20.1Z app1 a\n2023-11-14T22:13:20.3Z app1 c1\n2023-11-14T22:13:20.3Z app1 c2\n"
    other = "2023-11-14T22:13:20.2Z app2 b\n2023-11-14T22:13:20.3Z app2 c3\n"
    merged = logs.merged([one, "", other])
    assert [text.split()[-1] for text in merged] == ["a", "b", "c1", "c2", "c3"]
    assert logs.merged([one, other], keep=2) == merged[-2:]


def test_all_instances_or_some_since_a_time() -> None:
    assert "--unit=phoenix@*.service" in logs.command("", 0, False, [])
    some = logs.command("1 hour ago", 10, True, ["3000", "worker"])
    assert {"--unit=phoenix@3000.service", "--unit=phoenix-worker@*.service", "--since=1 hour ago", "--lines=10",
            "--follow"} <= set(some)  # fmt: skip

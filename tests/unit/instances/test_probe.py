"""The probe's decisions, and its reading of a live socket."""

from __future__ import annotations

import asyncio
import socket

import pytest

from phoenix.instances import probe

POLICY = probe.Policy(timeout=3, interval=1, failures=2, grace=15)
UNIT = probe.Unit("phoenix@3000.service", 3000, 42, 100.0)


def test_two_silent_probes_in_a_row_kill() -> None:
    first = probe.decide(probe.Record(), UNIT, probe.Outcome.SILENT, 200.0, POLICY)
    assert not first.kill and first.record.silent == 1 and first.wait == 0
    second = probe.decide(first.record, UNIT, probe.Outcome.SILENT, 203.0, POLICY)
    assert second.kill and "2 times" in second.reason and second.record.silent == 0


@pytest.mark.parametrize("outcome", [probe.Outcome.REACTED, probe.Outcome.REFUSED])
def test_any_answer_in_between_resets_the_count(outcome: probe.Outcome) -> None:
    record = probe.decide(probe.Record(), UNIT, probe.Outcome.SILENT, 200.0, POLICY).record
    record = probe.decide(record, UNIT, outcome, 203.0, POLICY).record
    assert not probe.decide(record, UNIT, probe.Outcome.SILENT, 206.0, POLICY).kill


def test_a_new_process_starts_with_a_clean_record() -> None:
    record = probe.Record(pid=41, silent=1)
    assert not probe.decide(record, UNIT, probe.Outcome.SILENT, 200.0, POLICY).kill


def test_grace_after_the_start() -> None:
    record = probe.Record(pid=42, silent=1)
    decision = probe.decide(record, UNIT, probe.Outcome.SILENT, 114.9, POLICY)
    assert not decision.kill and decision.record.silent == 0
    assert probe.decide(record, UNIT, probe.Outcome.SILENT, 115.0, POLICY).kill


def test_a_hang_is_detected_within_ten_seconds() -> None:
    # Worst case: it hangs just after a probe, so a whole interval passes before the first silent one.
    assert POLICY.interval + POLICY.failures * POLICY.timeout + 1 < 10


def test_parse_units_takes_running_instances_only() -> None:
    text = (
        "MainPID=42\nExecMainStartTimestampMonotonic=1500000\nId=phoenix@3000.service\nActiveState=active\n\n"
        "MainPID=0\nExecMainStartTimestampMonotonic=0\nId=phoenix@3001.service\nActiveState=activating\n\n"
        "MainPID=9\nExecMainStartTimestampMonotonic=7\nId=phoenix-probe.service\nActiveState=active\n"
    )
    assert probe.parse_units(text) == [probe.Unit("phoenix@3000.service", 3000, 42, 1.5)]
    assert probe.parse_units("") == []


def test_probe_distinguishes_silence_from_refusal() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        # Accepted by the kernel, answered by nobody: what a stopped process looks like.
        port = server.getsockname()[1]
        assert asyncio.run(probe.probe(port, 0.2)) is probe.Outcome.SILENT
    assert asyncio.run(probe.probe(port, 0.2)) is probe.Outcome.REFUSED


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b""])
def test_probe_takes_bytes_and_end_of_file_as_reactions(answer: bytes) -> None:
    async def scenario() -> object:
        async def react(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(answer)
            writer.close()

        server = await asyncio.start_server(react, "127.0.0.1", 0)
        async with server:
            return await probe.probe(server.sockets[0].getsockname()[1], 2.0)

    assert asyncio.run(scenario()) is probe.Outcome.REACTED

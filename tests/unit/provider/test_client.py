"""The client of providers: time limits, error classes, and answers that are not to be trusted."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phoenix.provider import cloud_config, contract
from phoenix.provider.client import MAX_ANSWER, TIME_LIMITS, Client
from phoenix.provider.contract import ERRORS, Invalid, Request, Spec, Unavailable
from tests.harness.provider import AUTHORIZED, SPEC, answers, requests

HOST = {"id": "i-1", "name": "app9", "address": "192.0.2.9", "state": "running"}
Json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["id", "name", "hosts", "x"]), inner),
    max_leaves=8,
)


def client(program: str, limits: Mapping[str, float] | None = None) -> Client:
    """A provider that runs this Python."""
    command = [sys.executable, "-c", f"import json, os, sys, time\n{program}"]
    return Client(command, "acme", time_limits=limits or TIME_LIMITS)


def saying(answer: Any, status: int = 0) -> Client:
    return client(f"print({json.dumps(answer)!r}); sys.exit({status})")


def limits(seconds: float) -> dict[str, float]:
    return dict.fromkeys(("list", "create", "delete", "quota"), seconds)


def test_each_action_and_its_answer() -> None:
    assert saying({"hosts": [HOST]}).list() == [contract.Host("i-1", "app9", "192.0.2.9", "running")]
    assert saying({"host": HOST}).create("app9", SPEC).id == "i-1"
    assert saying({"deleted": False}).delete("i-1") is False
    assert saying({"max": None, "used": 3}).quota() == contract.Limit(None, 3)


def test_the_request_arrives_whole(tmp_path: Path) -> None:
    path = tmp_path / "request"
    answer = json.dumps({"host": HOST})
    client(f"open({str(path)!r}, 'w').write(sys.stdin.read()); print({answer!r})").create("app9", SPEC)
    sent = json.loads(path.read_text())
    requests.validate(sent)
    assert contract.request(sent) == Request("create", "acme", {}, name="app9", spec=SPEC)


@pytest.mark.parametrize("kind", sorted(ERRORS))
def test_errors_have_their_class(kind: str) -> None:
    with pytest.raises(ERRORS[kind], match=r"^why not$") as caught:
        saying({"error": {"class": kind, "message": "why\nnot"}}, 1).list()
    assert caught.type is ERRORS[kind]


@pytest.mark.parametrize(
    "answer",
    [
        {},
        [],
        {"hosts": {}},
        {"hosts": [HOST, HOST]},
        {"hosts": [{**HOST, "id": ""}]},
        {"hosts": [{**HOST, "id": "a b"}]},
        {"hosts": [{**HOST, "name": "app9; reboot"}]},
        {"hosts": [{**HOST, "name": "-o"}]},
        {"hosts": [{**HOST, "name": "../etc"}]},
        {"hosts": [{**HOST, "address": "example.org"}]},
        {"hosts": [{**HOST, "address": None}]},
        {"hosts": [{**HOST, "state": "happy"}]},
        {"hosts": [{**HOST, "state": []}]},
        {"hosts": [{**HOST, "host_key": "ssh-ed25519 AAAA\n* ssh-ed25519 BBBB"}]},
        {"hosts": [{**HOST, "password": "x"}]},
        {"hosts": [], "error": {"class": "quota", "message": ""}},
        {"error": {"class": "unheard", "message": ""}},
        {"error": "no"},
    ],
    ids=str,
)
def test_an_answer_out_of_the_contract_is_no_answer(answer: Any) -> None:
    with pytest.raises(Unavailable):
        saying(answer).list()


def test_another_host_than_the_one_created_is_no_answer() -> None:
    with pytest.raises(Unavailable, match="the host is app9, not app8"):
        saying({"host": HOST}).create("app8", SPEC)


@pytest.mark.parametrize("used", [True, -1, "3", 1.0, None])
def test_a_quota_is_whole_numbers(used: Any) -> None:
    with pytest.raises(Unavailable):
        saying({"max": None, "used": used}).quota()


@given(Json)
def test_no_answer_breaks_the_reader(answer: Any) -> None:
    for read in (contract.hosts, contract.deleted, contract.limit, lambda value: contract.created(value, "app9")):
        try:
            read(answer)
            answers.validate(answer)
        except ValueError:
            continue


@given(Json)
def test_no_request_breaks_a_provider(value: Any) -> None:
    for request in (
        value,
        {"version": 1, "action": "create", "fleet": "a", "settings": {}, "name": "a", "spec": value},
    ):
        try:
            contract.request(request)
        except ValueError:
            continue
        requests.validate(request)


def test_a_failure_without_an_answer_carries_what_it_said() -> None:
    with pytest.raises(Unavailable, match=r"exit status 3.*Traceback: disk full"):
        client("sys.stderr.write('Traceback: disk full'); sys.exit(3)").list()


def test_a_good_answer_with_a_bad_status_is_no_answer() -> None:
    with pytest.raises(Unavailable, match="ended with status 2"):
        saying({"hosts": []}, 2).list()


def test_a_command_that_is_not_there() -> None:
    with pytest.raises(Unavailable, match="can't be started"):
        Client(["/nonexistent/provider"], "acme").list()


def test_an_answer_without_end_is_ended() -> None:
    with pytest.raises(Unavailable, match=f"more than {MAX_ANSWER} bytes"):
        client("while True: sys.stdout.write('x' * 65536)").list()


def test_messages_without_end_are_no_problem() -> None:
    answer = json.dumps({"hosts": []})
    assert client(f"sys.stderr.write('x' * (1 << 22)); print({answer!r})").list() == []


def test_a_provider_that_hangs_is_ended_with_its_children(tmp_path: Path) -> None:
    mark = tmp_path / "pid"
    program = f"pid = os.fork(); open({str(mark)!r}, 'a').write(f'{{os.getpid()}} '); time.sleep(600)"
    with pytest.raises(Unavailable, match="took longer than 1 s"):
        client(program, limits(1)).list()
    pids = mark.read_text().split()
    assert len(pids) == 2
    for pid in pids:
        status = Path(f"/proc/{pid}/stat")
        deadline = time.monotonic() + 60
        while status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z":
            assert time.monotonic() < deadline, f"process {pid} was left"
            time.sleep(0.05)


def test_a_child_that_stays_does_not_hold_up_the_answer(tmp_path: Path) -> None:
    """Such as the master of an SSH connection, which keeps the pipe for messages open."""
    answer, mark = json.dumps({"hosts": []}), tmp_path / "pid"
    program = (
        "child = os.fork()\n"
        "if not child: time.sleep(600)\n"
        f"open({str(mark)!r}, 'w').write(str(child)); print({answer!r}, flush=True)"
    )
    try:
        assert client(program, limits(60)).list() == []
    finally:
        os.kill(int(mark.read_text()), signal.SIGKILL)


def test_a_provider_may_answer_without_reading() -> None:
    answer = json.dumps({"hosts": []})
    assert client(f"os.close(0); print({answer!r})").list() == []


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"authorized_keys": []}, "authorized_keys"),
        ({"authorized_keys": ["none"]}, "authorized_keys"),
        ({"image": ""}, "image"),
        ({"user": "Root"}, "user"),
        ({"address": "app9"}, "address"),
        ({"host_key": {"private": "x", "public": "ssh-rsa AAAA"}}, "host_key"),
    ],
)
def test_a_wrong_order_never_leaves(change: Mapping[str, Any], named: str) -> None:
    with pytest.raises(Invalid, match=named):
        saying({"host": HOST}).create("app9", Spec(**{**vars(SPEC), **change}))


def test_too_large_a_request_never_leaves() -> None:
    with pytest.raises(Invalid, match="60000 are allowed"):
        Client(["true"], "acme", {"text": "x" * 70_000}).list()


def test_the_private_key_is_in_no_message_and_on_no_command_line() -> None:
    program = client("sys.stderr.write('failed'); sys.exit(1)")
    with pytest.raises(Unavailable) as caught:
        program.create("app9", SPEC)
    assert "secret" not in str(caught.value)
    assert "secret" not in " ".join(program.command)


def test_cloud_config_holds_the_host_key() -> None:
    key = cloud_config.host_key()
    text = cloud_config.user_data("app9", "debian", AUTHORIZED, key)
    assert text.startswith("#cloud-config\n")
    config = json.loads(text.partition("\n")[2])
    assert config["ssh_keys"] == {"ed25519_private": key["private"], "ed25519_public": key["public"]}
    assert config["users"][0]["ssh_authorized_keys"] == AUTHORIZED
    assert contract.HOST_KEY.fullmatch(key["public"])

"""The streaming key: which ones a parent accepts, and what its answer means."""

from __future__ import annotations

import pytest

from phoenix.monitoring import streaming
from tests.unit.shared import TOP, rendered

OLD, NEW = "0a0a0a0a-0000-0000-0000-000000000001", "0a0a0a0a-0000-0000-0000-000000000002"
TEMPLATE = TOP / "roles" / "netdata" / "templates" / "stream.conf.j2"


def conf(key: str, *former: str, parent: bool) -> str:
    own = {"netdata_stream_key": key, "netdata_stream_former_keys": list(former), "netdata_parent": parent}
    return rendered(TEMPLATE, own)


def test_keys_are_read_as_the_template_writes_them() -> None:
    assert streaming.accepted(conf(NEW, OLD, parent=True)) == [NEW, OLD]
    assert streaming.sent(conf(NEW, parent=False)) == NEW and streaming.accepted(conf(NEW, parent=False)) == []
    confs = [conf(NEW, OLD, parent=True), conf(OLD, parent=False), conf(NEW, parent=False)]
    assert streaming.former(confs, NEW) == [OLD]
    assert streaming.former([conf(NEW, parent=True), "", conf(NEW, parent=False)], NEW) == []


# As Debian's Netdata 1.37.1 answers; tests/e2e/test_alerts.py asks it.
REFUSED = "You are not permitted to access this. Check the logs for more info."
CONNECTED = "This GUID is already streaming to this server"


@pytest.mark.parametrize("head", ["", "HTTP/1.1 409 Conflict\r\nConnection: close\r\n\r\n"])
@pytest.mark.parametrize(("said", "accepted"), [(REFUSED, False), (CONNECTED, True)])
def test_a_parent_to_which_the_host_streams_knows_the_key(head: str, said: str, accepted: bool) -> None:
    assert streaming.verdict(f"{head}{said}") is accepted


@pytest.mark.parametrize("answer", ["", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 503 Service Unavailable\r\n", "Hit me baby"])
def test_other_answers_prove_nothing(answer: str) -> None:
    with pytest.raises(ValueError, match="no clear answer"):
        streaming.verdict(answer)

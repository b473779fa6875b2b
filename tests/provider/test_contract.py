"""The contract, against every provider: what is created, what is deleted, and what is left alone."""

from __future__ import annotations

import contextlib
import json
import subprocess
import threading

import pytest

from phoenix.provider.contract import ERRORS, Conflict, Error, Foreign, Host, Invalid, Quota, Request, Unavailable
from tests.harness.provider import answers, requests
from tests.provider.conftest import FLEET, TOP, Backend

NAME, OTHER = "contract-1", "contract-2"


def names(at: Backend, fleet: str = FLEET) -> list[str]:
    return sorted(host.name for host in at.client(fleet).list())


def test_a_new_fleet_has_no_hosts(at: Backend) -> None:
    assert at.client().list() == []
    assert at.client().quota().used == 0


def test_a_host_is_created_once_and_deleted_once(at: Backend) -> None:
    made = at.client().create(NAME, at.spec())
    assert (made.name, made.address, made.state) == (NAME, at.spec().address, "running")
    assert at.client().create(NAME, at.spec()).id == made.id
    assert [host.id for host in at.client().list()] == [made.id]
    assert at.client().quota().used == 1
    assert at.client().delete(made.id)
    assert at.client().list() == []
    assert not at.client().delete(made.id)


def test_the_key_is_the_one_that_was_given_first(at: Backend) -> None:
    """Another creation of the same host brings another key: who asks gets the one that the host has."""
    made = at.client().create(NAME, at.spec())
    assert made.host_key == at.spec().host_key["public"]
    other = type(at).key | {"public": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOther"}
    again = at.client().create(NAME, type(at.spec())(**{**vars(at.spec()), "host_key": other}))
    assert again.host_key == made.host_key


def test_a_host_without_the_tag_is_not_there(at: Backend) -> None:
    foreign = at.foreign(NAME)
    try:
        assert at.client().list() == []
        with pytest.raises(Conflict):
            at.client().create(NAME, at.spec())
        with pytest.raises(Foreign):
            at.client().delete(foreign)
        assert at.exists(foreign)
    finally:
        at.delete_by_hand(foreign)


def test_another_fleet_is_as_foreign(at: Backend) -> None:
    theirs = at.client(f"{FLEET}-other").create(NAME, at.spec())
    assert at.client().list() == []
    with pytest.raises(Conflict):
        at.client().create(NAME, at.spec())
    with pytest.raises(Foreign):
        at.client().delete(theirs.id)
    assert names(at, f"{FLEET}-other") == [NAME]


def test_only_an_id_deletes(at: Backend) -> None:
    """Neither a name, nor a number, nor what an ID begins with."""
    made = at.client().create(NAME, at.spec())
    for identity in (NAME, "1", f"phoenix-{NAME}", made.id[:6]):
        assert not at.client().delete(identity)
    assert names(at) == [NAME]


def test_killed_at_any_point_of_a_creation(at: Backend) -> None:
    """What was begun is in the list or is not there at all; the next attempt completes it, and there is one host."""
    for seconds in at.kills:
        with contextlib.suppress(Unavailable):
            at.killed(seconds).create(NAME, at.spec())
        made = at.client().create(NAME, at.spec())
        assert made.state == "running"
        assert names(at) == [NAME]
        assert at.client().delete(made.id)
        assert at.remnants() == []


def test_killed_at_any_point_of_a_deletion(at: Backend) -> None:
    for seconds in at.kills:
        made = at.client().create(NAME, at.spec())
        with contextlib.suppress(Unavailable):
            at.killed(seconds).delete(made.id)
        for host in at.client().list():
            at.client().delete(host.id)
        assert at.remnants() == []


def test_two_creations_at_once_make_one_host(at: Backend) -> None:
    made: list[Host] = []
    together = [threading.Thread(target=lambda: made.append(at.client().create(NAME, at.spec()))) for _ in range(3)]
    for thread in together:
        thread.start()
    for thread in together:
        thread.join()
    assert len(made) == 3
    assert len({host.id for host in made}) == 1
    assert names(at) == [NAME]


def test_the_quota_refuses_more_and_nothing_else(at: Backend) -> None:
    client = at.limited(1)
    made = client.create(NAME, at.spec())
    quota = client.quota()
    assert (quota.max, quota.used) == (1, 1)
    with pytest.raises(Quota):
        client.create(OTHER, at.spec(2))
    assert client.create(NAME, at.spec()).id == made.id
    assert client.delete(made.id)
    assert client.create(OTHER, at.spec(2)).name == OTHER


def test_a_host_deleted_by_hand_is_made_again(at: Backend) -> None:
    made = at.client().create(NAME, at.spec())
    at.delete_by_hand(made.id)
    assert at.client().list() == []
    assert not at.client().delete(made.id)
    again = at.client().create(NAME, at.spec())
    assert again.id != made.id


def test_an_unknown_setting_is_refused(at: Backend) -> None:
    with pytest.raises(Invalid, match="colour"):
        at.client(colour="red").list()


@pytest.mark.parametrize("action", ["list", "create", "delete", "quota"])
def test_requests_and_answers_have_the_form_of_the_schema(at: Backend, action: str) -> None:
    client = at.client()
    request = Request(action, FLEET, client.settings, name=NAME, spec=at.spec(), id="none").json()
    requests.validate(request)
    done = subprocess.run(
        client.command,
        input=json.dumps(request),
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": "/usr/bin:/bin", "HOME": str(TOP / ".cache"), **client.environment},
    )
    answers.validate(json.loads(done.stdout))


def test_every_error_has_its_class() -> None:
    assert {kind: error.kind for kind, error in ERRORS.items()} == {kind: kind for kind in ERRORS}
    assert all(issubclass(error, Error) for error in ERRORS.values())

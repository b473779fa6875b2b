"""The members' shared key while it is changed; what a real server makes of such files is in tests/database."""

from __future__ import annotations

import itertools

import pytest

from phoenix.database import keys

OLD, NEW = "a2V5b2xk", "bmV3a2V5"


def test_a_file_holds_one_key_or_a_sequence() -> None:
    assert keys.keys(f"{OLD}\n") == [OLD]
    assert keys.keys("a2V5\nb2xk\n") == [OLD], "openssl breaks lines"
    assert keys.keys(keys.render([OLD, NEW])) == [OLD, NEW]
    assert keys.keys("") == []


def test_the_present_key_stays_first_and_the_new_one_is_added_once() -> None:
    both = keys.beside(f"{OLD}\n", NEW)
    assert keys.keys(both) == [OLD, NEW]
    assert keys.beside(both, NEW) == both
    assert keys.beside(f"{NEW}\n", NEW) == f"{NEW}\n"


@pytest.mark.parametrize("cut", range(7))
def test_a_change_that_is_cut_anywhere_is_completed_and_no_two_members_ever_refuse_each_other(cut: int) -> None:
    """Files, and what the servers have read of them, which may be older; one step is one file or one restart."""
    files = dict.fromkeys("abc", f"{OLD}\n")
    running = dict(files)

    def understand() -> bool:
        return all(set(keys.keys(a)) & set(keys.keys(b)) for a, b in itertools.combinations(running.values(), 2))

    def restarts() -> list[str]:
        return [host for host in files if running[host] != files[host]]

    def run(steps: int) -> int:
        """The play, which ends after so many steps; returns those that are left."""

        def step() -> bool:
            nonlocal steps
            steps -= 1
            assert understand()
            return steps < 0

        for write in (keys.beside, lambda content, wanted: f"{wanted}\n"):
            if write is not keys.beside and not keys.spread(running.values(), NEW):
                raise AssertionError("the old key would be forgotten too early")
            for host in files:
                wanted = write(files[host], NEW)
                if wanted != files[host]:
                    if step():
                        return 0
                    files[host] = wanted
            for host in restarts():
                if step():
                    return 0
                running[host] = files[host]
        return steps

    run(2 * cut)
    assert run(99)
    assert set(files.values()) == set(running.values()) == {f"{NEW}\n"}


def test_another_key_is_only_written_by_a_rotation() -> None:
    assert keys.refusal("db1", "", NEW) == ""
    assert keys.refusal("db1", f"{NEW}\n", NEW) == ""
    assert "rotate-secrets.yml" in keys.refusal("db1", f"{OLD}\n", NEW)
    assert "rotate-secrets.yml" in keys.refusal("db1", keys.render([OLD, NEW]), NEW)
    assert OLD not in keys.refusal("db1", f"{OLD}\n", NEW)


def test_former_keys_are_those_that_have_to_be_refused() -> None:
    assert keys.former([keys.render([OLD, NEW]), f"{OLD}\n"], NEW) == [OLD]
    assert keys.former([f"{NEW}\n"], NEW) == []


def test_a_third_key_is_refused_before_a_file_is_written() -> None:
    """With the two of a change that was cut, a server would not start with it."""
    both = keys.render([OLD, NEW])
    assert [keys.unfit("db1", content, NEW) for content in (f"{OLD}\n", both, f"{NEW}\n")] == [""] * 3
    assert keys.unfit("db1", both, OLD) == "", "back to the former one"
    refused = keys.unfit("db1", both, "dGhpcmQ=")
    assert "db1 has two keys" in refused and OLD not in refused and NEW not in refused


@pytest.mark.parametrize("wanted", ["", "short", "no-base64!", "a" * 1025, keys.render([OLD, NEW])])
def test_what_is_no_key_is_refused(wanted: str) -> None:
    refused = keys.unfit("db1", f"{OLD}\n", wanted)
    assert "not one key" in refused and "(hidden)" in refused
    assert keys.unfit("db1", f"{OLD}\n", f"{'a' * 64}\n{'b' * 64}\n") == "", "openssl breaks lines"

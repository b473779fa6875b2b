"""What an instance's environment holds of the settings."""

from __future__ import annotations

from typing import Any

import pytest

from phoenix.fleet import environment

URI = "mongodb://db"


@pytest.mark.parametrize(
    ("value", "written"),
    [(True, "true"), (False, "false"), (8, "8"), (0, "0"), (1.5, "1.5"), ("", ""), ("True", "True"), ("a b$", "a b$")],
)
def test_values_are_written_as_programs_write_them(value: Any, written: str) -> None:
    assert environment.variables({"A": value}, URI, "infinity") == {"A": written, "DB_CONNECTION_STRING": URI}
    assert environment.errors({"A": value}) == []


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("A", None, "no value"),
        ("A", {"secret": 1}, "to_json"),
        ("A", ["secret"], "to_json"),
        ("A", "secret\0", "NUL"),
        ("A-B", "secret", "letters"),
        ("PORT", 80, "leave it out"),
        ("DB_CONNECTION_STRING", "secret", "leave it out"),
    ],
)
def test_what_no_environment_can_hold_is_refused_without_the_value(name: str, value: Any, words: str) -> None:
    (message,) = environment.errors({name: value})
    assert name in message
    assert words in message
    assert "secret" not in message


@pytest.mark.parametrize(
    ("memory", "heap"),
    [("256M", 192), ("1G", 768), (268435456, 192), ("524288K", 384), ("infinity", 0), ("10%", 0), ("", 0)],
)
def test_the_heap_fits_into_the_memory(memory: Any, heap: int) -> None:
    assert environment.heap_mb(memory) == heap
    options = environment.variables({}, URI, memory).get("NODE_OPTIONS")
    assert options == (f"--max-old-space-size={heap}" if heap else None)


@pytest.mark.parametrize("given", ["--max-old-space-size=100", "--no-deprecation --max_old_space_size=100"])
def test_a_heap_that_the_application_was_given_is_kept(given: str) -> None:
    assert environment.variables({"NODE_OPTIONS": given}, URI, "256M")["NODE_OPTIONS"] == given


def test_other_options_of_node_are_kept_beside_the_heap() -> None:
    found = environment.variables({"NODE_OPTIONS": "--no-deprecation"}, URI, "256M")
    assert found["NODE_OPTIONS"] == "--no-deprecation --max-old-space-size=192"


@pytest.mark.parametrize("path", ["/var/lib/myapp", "/srv/uploads", "/data", "/mnt/nfs/a", "/opt/phoenix-files"])
def test_a_folder_of_the_applications_own_may_be_written(path: str) -> None:
    assert environment.path_errors([path]) == []


@pytest.mark.parametrize(
    "path",
    ["uploads", "/var/lib", "/", "/etc/x", "/opt/phoenix/releases", "/srv/../etc", "/srv/a b", "/srv/", "/home/me", 1],
)
def test_no_other_path_may(path: Any) -> None:
    (message,) = environment.path_errors([path])
    assert "/var/lib/myapp/uploads" in message


def test_the_file_of_cas_that_an_environment_names() -> None:
    path = "/etc/ssl/phoenix/database-ca-0123456789ab.pem"
    text = environment.lines({"A": "1", "NODE_EXTRA_CA_CERTS": path, "Z": "2"})
    assert environment.trusted_file(text) == path
    assert environment.trusted_file(environment.lines({"NODE_EXTRA_CA_CERTS": "/opt/own.pem"})) == ""
    assert environment.trusted_file('A="1"') == ""

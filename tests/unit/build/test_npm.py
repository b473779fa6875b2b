"""What npm is asked to do, and what of its settings packages' scripts can read."""

from __future__ import annotations

from typing import Any

import pytest

from phoenix.build import npm

DEV = {"devDependencies": {"rimraf": "2"}}


def words(package: dict[str, Any], locked: bool = True, credential: bool = False) -> list[str]:
    return [" ".join(step.words) for step in npm.steps(package, locked, credential)]


@pytest.mark.parametrize(
    ("package", "expected"),
    [
        ({}, ["ci --production"]),
        (DEV, ["ci --production"]),
        ({**DEV, "scripts": {"test": "mocha", "start": "node a.js"}}, ["ci --production"]),
        ({**DEV, "scripts": {"build": "tsc"}}, ["ci", "run build", "prune --production"]),
        ({**DEV, "scripts": {"prepare": "tsc"}}, ["ci", "prune --production"]),
        ({**DEV, "scripts": {"postinstall": "tsc"}}, ["ci", "prune --production"]),
        ({"scripts": {"build": "node make.js"}}, ["ci --production", "run build"]),
    ],
)
def test_the_tools_of_a_build_are_there_for_it_and_not_after_it(package: dict[str, Any], expected: list[str]) -> None:
    assert words(package) == expected


def test_without_a_lock_file_the_versions_are_resolved_and_then_installed_as_with_one() -> None:
    assert words({}, locked=False) == ["install --package-lock-only", "ci --production"]
    assert npm.warnings(locked=True, resolved="a 1.0.0") == []
    (warning,) = npm.warnings(locked=False, resolved="a 1.0.0, b 2.0.0")
    assert "package-lock.json" in warning
    assert "(a 1.0.0, b 2.0.0)" in warning


def test_another_script_than_build_makes_the_release_where_it_is_named() -> None:
    package = {**DEV, "scripts": {"build": "tsc", "dist": "webpack"}}
    assert [" ".join(step.words) for step in npm.steps(package, True, False, "dist")] == [
        "ci",
        "run dist",
        "prune --production",
    ]


def test_with_a_credential_everything_is_fetched_before_any_script_runs() -> None:
    steps = npm.steps({**DEV, "scripts": {"build": "tsc"}}, locked=False, credential=True)
    assert [(" ".join(step.words), step.credential) for step in steps] == [
        ("install --package-lock-only", True),
        ("ci", True),
        ("ci --prefer-offline", False),
        ("run build", False),
        ("prune --production", False),
    ]
    for step in steps:
        assert not step.credential or step.environment["npm_config_ignore_scripts"] == "true"


def test_with_a_deploy_key_everything_is_installed_before_any_script_runs() -> None:
    package = {**DEV, "scripts": {"build": "tsc", "postinstall": "node a.js", "prepare": "node b.js"}}
    found = [(" ".join(step.words), step.credential) for step in npm.steps(package, True, False, git=True)]
    assert found == [
        ("ci", True),
        ("rebuild", False),
        ("run postinstall", False),
        ("run prepare", False),
        ("run build", False),
        ("prune --production", False),
    ]


SETTINGS = """registry=https://npm.example.org/
@acme:registry = https://npm.acme.example.org/
cafile=/etc/ssl/certs/acme.pem
; a comment
"""


@pytest.mark.parametrize(
    "line",
    [
        "//npm.example.org/:_authToken=abc",
        "  //npm.example.org/:username = me",
        "//npm.example.org/:always-auth=true",
        "_auth = bWU6eA==",
        "_password=abc",
        "email=me@example.org",
        "key = abc",
        "proxy=http://me:secret@proxy.example.org:3128",  # pragma: allowlist secret
        "@acme:registry=https://me@npm.acme.example.org/",
    ],
)
def test_credentials_are_left_out_and_settings_are_not(line: str) -> None:
    assert not npm.has_secrets(SETTINGS)
    assert npm.has_secrets(f"{SETTINGS}{line}\n")
    assert npm.without_secrets(f"{line}\n{SETTINGS}") == SETTINGS

"""What the versions of Node.js and npm rule out."""

from __future__ import annotations

from typing import Any

import pytest

from phoenix.build import versions
from phoenix.build.start import BuildError

OLD = versions.Versions("v8.11.1", "6.14.18", (">=20",))
NEW = versions.Versions("v24.21.0", "11.0.0")


def refuse(package: dict[str, Any], seen: versions.Versions, lock: str = "", engines: bool = True) -> None:
    versions.refuse(package, lock, (package.get("scripts") or {}).get("start", "node a.js"), seen, engines)


@pytest.mark.parametrize(
    ("package", "lock", "words"),
    [
        ({}, '{"name": "a",\n  "lockfileVersion": 3,', "--lockfile-version 2"),
        ({"engines": {"node": ">=20"}}, "", "nodejs_version"),
        ({"type": "module"}, "", "12.17"),
        ({"scripts": {"start": "node server.mjs"}}, "", "12.17"),
    ],
)
def test_what_is_too_new_is_refused_with_the_way_out(package: dict[str, Any], lock: str, words: str) -> None:
    with pytest.raises(BuildError, match=words):
        refuse(package, OLD, lock)
    refuse(package, NEW, lock)


@pytest.mark.parametrize(
    ("package", "lock"),
    [
        ({"engines": {"node": ">=6"}, "type": "commonjs"}, '{"lockfileVersion": 2}'),
        ({"engines": ["node >= 20"]}, '{"lockfileVersion": 1}'),
        ({"type": "module", "scripts": {"start": "node -r esm server.js"}}, ""),
    ],
)
def test_what_runs_is_taken(package: dict[str, Any], lock: str) -> None:
    refuse(package, OLD, lock)


def test_an_operator_may_know_better_than_engines() -> None:
    refuse({"engines": {"node": ">=20"}}, OLD, engines=False)


def test_an_npmrc_that_names_a_variable_of_the_developers_machine() -> None:
    settings = "registry=https://npm.example.org/\n//npm.example.org/:_authToken=${NPM_TOKEN}\n"
    with pytest.raises(BuildError, match=r"NPM_TOKEN.*release_npmrc"):
        versions.refuse_variables(settings, ["HOME"])
    versions.refuse_variables(settings, ["HOME", "NPM_TOKEN"])


def test_modules_that_need_another_nodejs_are_named() -> None:
    modules: dict[str, dict[str, Any]] = {"a": {"version": "1.0.0", "engines": {"node": ">=20"}}, "b": {}}
    (warning,) = versions.warnings(modules, OLD)
    assert "a 1.0.0 (>=20)" in warning
    assert "b " not in warning
    assert versions.warnings(modules, NEW) == []


def test_the_versions_that_the_applications_own_dependencies_got() -> None:
    package = {"dependencies": {"b": "^2", "a": "1", "optional": "1"}}
    assert (
        versions.resolved(package, {"a": {"version": "1.0.1"}, "b": {"version": "2.3.0"}, "c": {}})
        == "a 1.0.1, b 2.3.0"
    )

"""What the check of an inventory evaluates once for many hosts (phoenix.fleet.sharing)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import jinja2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phoenix.fleet import inventory
from phoenix.fleet.sharing import Sharing, shared

TEXT = "{{ port }}"


def same(one: dict[str, Any], other: dict[str, Any], name: str = "value") -> bool:
    sharing = Sharing({"one": one, "other": other})
    return sharing.origin("one", name) == sharing.origin("other", name)


@pytest.mark.parametrize(
    "template",
    [
        TEXT,
        "{{ middle }}",
        {"a": [{"b": TEXT}]},
        {TEXT: 1},
        "{% if port %}1{% endif %}",
        "don't {{ port }} isn't",
        '{{ "it\'s" ~ port ~ "isn\'t" }}',
        "{{ {'a': {'b': port}} }} {{ 'it' ~ port }}",
        "{{ hostvars[host].x }}",
        "{{ 'a' | regex_replace('\\W', '') ~ port ~ '.example.org' }}",
        "{{ 'x' ~ '\\n' ~ port ~ '\\n' }}",
        "{{ '}}' ~ 1 ~ '{{' ~ port ~ 'x' }}",
        "{# {{ host's #}{{ 'it' if port == 1 else 'no' }}",
        "{{ ö }}",
        "#jinja2: variable_start_string:'[%', variable_end_string:'%]'\n[% port %]",
        "{% include 'inc.j2' %}",
        "{% from 'imp.j2' import x with context %}",
        "{{ [1, 2] | random }}",
        "{{ lookup('config', 'port', plugin_type='connection', plugin_name='ssh') }}",
        "{{ lookup('file' if false else 'vars', 'po' ~ 'rt') }}",
        "{{ lookup('env', 'X_{{ port }}') }}",
        "{{ lookup('password', '/dev/null') }}",
        "{{ port",
        "{{ lookup('ansible.builtin.file', directory ~ port) }}",
        "{{ vars['po' ~ 'rt'] }}",
        "{{ lookup('vars', 'po' ~ 'rt') }}",
        "{{ lookup('template', 'a.j2') }}",
        "{{ query('varnames', '^po') }}",
        "{{ q('community.general.store', 'a') }}",
    ],
)
def test_what_may_differ_is_evaluated_for_each_host(template: Any) -> None:
    common = {"value": template, "middle": TEXT, "directory": "/a"}
    assert not same({**common, "port": 1, "host": "one", "ö": 1}, {**common, "port": 2, "host": "other", "ö": 2})


@pytest.mark.parametrize(
    "template",
    [
        TEXT,
        "{{ middle }}",
        "a text of one.example",
        7,
        "{{ groups['db'] | map('extract', hostvars, 'own') }}",
        '{{ "own" ~ port }}',
        "{{ '\\'own' ~ port ~ \"own's\" }}",
        "{# own #}{% raw %}{{ own }}{% endraw %}{{ port }}",
        "{{ lookup('password', directory ~ '/own', length=32) }}",
        "{{ lookup('ansible.builtin.file', directory ~ '/own') }}",
        "{{ query('env', 'HOME') }}",
    ],
)
def test_what_is_the_same_is_evaluated_once(template: Any) -> None:
    common = {"value": template, "middle": TEXT, "directory": "/a", "port": 1}
    assert same({**common, "own": 1}, {**common, "own": 2})


def test_plain_values_are_compared_and_templates_are_of_the_same_file() -> None:
    assert same({"value": "text"}, {"value": "".join(("tex", "t"))})
    assert not same({"value": 1}, {"value": True})
    # Ansible may trust the template of one source and not that of another.
    assert not same({"value": "{{ 1 }}"}, {"value": "".join(("{{ 1", " }}"))})


def test_variables_that_refer_to_each_other_end() -> None:
    common = {"value": "{{ other }}", "other": "{{ value }}"}
    assert same(common, dict(common))


NAMES = ("a", "b", "c", "d")
VALUES = st.sampled_from(
    [
        "plain",
        "{{ b }}",
        "{{ c }} it's",
        "{{ d ~ 'a' }}",
        '{{ "b" ~ a }}',
        r"{{ '\\' ~ c ~ 'x' }}",
        "{% if c %}{{ d }}{% endif %}",
    ]
)


compiled = cache(jinja2.Environment().from_string)


def rendered(variables: Mapping[str, str], name: str, depth: int = 4) -> str:
    """The value, with what it refers to rendered first, as Ansible does."""
    if not depth:
        return "endless"
    others = {other: rendered(variables, other, depth - 1) for other in variables if other in variables[name]}
    return compiled(variables[name]).render(others)


@settings(max_examples=40)
@given(st.lists(st.fixed_dictionaries(dict.fromkeys(NAMES, VALUES)), min_size=2, max_size=2))
def test_whatever_is_shared_is_equal(hosts: list[dict[str, str]]) -> None:
    sharing = Sharing({str(number): variables for number, variables in enumerate(hosts)})
    for name in NAMES:
        if sharing.origin("0", name) == sharing.origin("1", name):
            assert rendered(hosts[0], name) == rendered(hosts[1], name)


class Counting(Mapping[str, Any]):
    """A host's variables as Ansible evaluates them, with the number of evaluations."""

    def __init__(self, values: dict[str, Any], seen: list[str]) -> None:
        self.values_, self.seen = values, seen

    def __getitem__(self, name: str) -> Any:
        self.seen.append(name)
        if isinstance(self.values_[name], Exception):
            raise self.values_[name]
        return self.values_[name]

    def __contains__(self, name: object) -> bool:
        return name in self.values_

    def __iter__(self) -> Iterator[str]:
        return iter(self.values_)

    def __len__(self) -> int:
        return len(self.values_)


def test_a_finding_is_of_every_host_that_shares_the_value() -> None:
    specs = {"nginx": {"nginx_port": {"type": "int"}}}
    values = {"lb1": {"nginx_port": "x{{ '' }}"}, "lb2": {}, "lb3": {"nginx_port": "y"}}
    values["lb2"] = values["lb1"]
    seen: list[str] = []
    hosts = {name: Counting(one, seen) for name, one in values.items()}
    found = [inventory.errors(each, {"lb": list(hosts)}, specs) for each in (shared(hosts, values), hosts)]
    assert found[0] == found[1] and any("lb1, lb2" in message and "whole number" in message for message in found[0])
    assert seen.count("nginx_port") == 2 + 3


def test_what_fails_does_so_for_every_host_that_shares_it() -> None:
    failure = ValueError("'nowhere' is undefined")
    seen: list[str] = []
    values = {"one": {"a": failure}, "other": {"a": failure}}
    hosts = shared({name: Counting(one, seen) for name, one in values.items()}, values)
    for host in ("one", "other", "one"):
        with pytest.raises(ValueError, match="nowhere"):
            hosts[host]["a"]
    assert seen == ["a"]

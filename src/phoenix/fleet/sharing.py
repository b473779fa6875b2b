"""Hosts whose value of a variable is the same: one evaluation serves them all.

A fleet's hosts take most of their variables from the same files, and Ansible evaluates each of them again for each
host, with all that it refers to.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any

import jinja2

Variables = Mapping[str, Any]
_Outcome = tuple[Any, "Exception | None"]

_LEXER = jinja2.Environment()
_WORD = re.compile(r"[^\W\d]\w*")
# What these return may depend on more than the names beside them lead to, or is another value each time.
_OPAQUE = frozenset(
    {"vars", "lookup", "query", "q", "include", "import", "from", "extends", "random", "shuffle", "now"}
)
_LOOKUPS = frozenset({"lookup", "query", "q"})
# Of these lookups it depends on their arguments alone.
_PLAIN_LOOKUPS = frozenset(
    f"{prefix}{name}" for prefix in ("", "ansible.builtin.") for name in ("env", "file", "password")
)
_OVERRIDES = "#jinja2:"  # the header of a template with other delimiters
_UNKNOWN = [("name", "vars")]  # may lead to any variable


class Sharing:
    """Tells whose values are the same, by the variables of each host with their templates unread.

    Two hosts share a value if theirs, and every one that it refers to directly or not, is the same object (of the same
    file), or the same plain text, number or truth. What looks like a reference counts as one.
    """

    def __init__(self, unread: Mapping[str, Variables]) -> None:
        self._unread = unread
        self._words: dict[int, frozenset[str]] = {}
        self._origins: dict[tuple[str, str], Hashable] = {}

    def origin(self, host: str, name: str) -> Hashable:
        """Return what is equal for two hosts where their values of the variable are the same."""
        if (host, name) not in self._origins:
            self._origins[host, name] = self._origin(host, name)
        return self._origins[host, name]

    def _origin(self, host: str, name: str) -> Hashable:
        variables = self._unread[host]
        found: set[str] = set()
        due = [name]
        while due:
            word = due.pop()
            if word in _OPAQUE:
                return host, name
            if word in variables and word not in found:
                found.add(word)
                due += self._referred(variables[word])
        return name, frozenset((word, _identity(variables[word])) for word in found)

    def _referred(self, value: Any) -> frozenset[str]:
        """The words of a value's templates."""
        if id(value) not in self._words:
            self._words[id(value)] = frozenset(word for text in _templates(value) for word in _names(text))
        return self._words[id(value)]


class Shared(Mapping[str, Any]):
    """A host's variables, each evaluated once for all hosts that share it, also where that fails."""

    def __init__(self, host: str, evaluated: Variables, sharing: Sharing, seen: dict[Hashable, _Outcome]) -> None:
        self._host, self._evaluated, self._sharing, self._seen = host, evaluated, sharing, seen

    def __getitem__(self, name: str) -> Any:
        origin = self._sharing.origin(self._host, name)
        if origin not in self._seen:
            try:
                self._seen[origin] = self._evaluated[name], None
            except Exception as error:  # noqa: BLE001 - any error of a template is an outcome
                self._seen[origin] = None, error
        value, failure = self._seen[origin]
        if failure:
            raise failure.with_traceback(None)  # which would grow each time
        return value

    def __contains__(self, name: object) -> bool:
        return name in self._evaluated

    def __iter__(self) -> Iterator[str]:
        return iter(self._evaluated)

    def __len__(self) -> int:
        return len(self._evaluated)


def shared(evaluated: Mapping[str, Variables], unread: Mapping[str, Variables]) -> dict[str, Variables]:
    """Return the hosts' variables as they are evaluated; unread: the same with their templates as they are written."""
    sharing, seen = Sharing(unread), dict[Hashable, _Outcome]()
    return {host: Shared(host, variables, sharing, seen) for host, variables in evaluated.items()}


def _is_template(text: str) -> bool:
    return "{" in text or text.startswith(_OVERRIDES)


def _identity(value: Any) -> Hashable:
    if isinstance(value, (bool, int, float)) or (isinstance(value, str) and not _is_template(value)):
        return type(value).__name__, value
    return id(value)


def _names(template: str) -> Iterator[str]:
    """Yield every name of a template's expressions, and the words of the templates that they quote."""
    tokens = _tokens(template)
    for place, (kind, text) in enumerate(tokens):
        if kind == "string" and "{" in text:
            yield from _WORD.findall(text)
        elif kind == "name" and not (text in _LOOKUPS and _is_plain(tokens[place + 1 : place + 4])):
            yield text


def _tokens(template: str) -> list[tuple[str, str]]:
    """Return the kind and text of each, or one that is opaque where they are not those that Ansible finds."""
    # From /dev/null the lookup of passwords makes another one each time.
    if template.startswith(_OVERRIDES) or "/dev/null" in template:
        return _UNKNOWN
    try:
        return [(kind, text) for _, kind, text in _LEXER.lex(template) if kind != "whitespace"]
    except jinja2.TemplateError:
        return _UNKNOWN


def _is_plain(call: Sequence[tuple[str, str]]) -> bool:
    """Whether what follows the name of a lookup is `('file'` and the end of that argument."""
    return (
        [kind for kind, _ in call] == ["operator", "string", "operator"]
        and call[0][1] == "("
        and call[1][1][1:-1] in _PLAIN_LOOKUPS
        and call[2][1] in ",)"
    )


def _templates(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        if _is_template(value):
            yield value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _templates(key)
            yield from _templates(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _templates(item)

"""The inventory as the checks see it: variables with their templates evaluated, which may fail."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from phoenix import __version__

Specs = Mapping[str, Mapping[str, Mapping[str, Any]]]
Finding = tuple[str, str]  # host, or "" for the whole inventory; message

PLAYBOOKS = "playbooks"  # in the place of a role: the settings of the playbooks themselves

_WRAPPER = "A captured exception marker was tripped: "
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_TRUE = frozenset({"true", "yes", "on", "1", "y", "t"})


def boolean(value: Any) -> bool:
    """A setting as Ansible's type `bool` understands it."""
    return str(value).strip().lower() in _TRUE


def _read(path: Path) -> Mapping[str, Any]:
    return yaml.load(path.read_text(encoding="utf-8"), _Loader) or {}


def known_variables(
    roles_dir: str | os.PathLike[str], playbook_dir: str | os.PathLike[str] | None = None
) -> dict[str, dict[str, dict[str, Any]]]:
    """Return {role: {variable: specification}} from each role's meta/argument_specs.yml, all entry points.

    The playbooks have one of their own for the settings of no single role; they are listed as the role `playbooks`.
    """
    paths = {path.parent.parent.name: path for path in sorted(Path(roles_dir).glob("*/meta/argument_specs.yml"))}
    own = Path(playbook_dir, "meta", "argument_specs.yml") if playbook_dir else None
    if own and own.exists():
        paths[PLAYBOOKS] = own
    known: dict[str, dict[str, dict[str, Any]]] = {}
    for role, path in paths.items():
        options = known.setdefault(role, {})
        for entry_point in (_read(path).get("argument_specs") or {}).values():
            for name, option in (entry_point.get("options") or {}).items():
                options.setdefault(name, option or {})
    return known


def shared_variables(playbook_dir: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the settings and the wiring of the playbooks, with their templates not evaluated."""
    shared: dict[str, Any] = {}
    for path in sorted(Path(playbook_dir, "group_vars", "all").glob("*.yml")):
        shared |= _read(path)
    return shared


@dataclass(frozen=True)
class Inventory:
    """The inventory as the checks see it.

    `late_variables` are names that only a running play defines. Each of `breaking_changes` has `version`, `change` and
    `fix`; `version` is that of Phoenix itself.
    """

    hostvars: Mapping[str, Mapping[str, Any]]
    groups: Mapping[str, Sequence[str]]
    specs: Specs
    late_variables: frozenset[str] = frozenset()
    breaking_changes: Sequence[Mapping[str, str]] = ()
    version: str = __version__
    options: dict[str, Mapping[str, Any]] = field(default_factory=dict, init=False)
    _seen: dict[tuple[str, str], tuple[Any, str]] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        for role in self.specs.values():
            self.options.update(role)
        # Ansible assembles a host's variables again at each access: once is enough.
        object.__setattr__(self, "hostvars", {str(host): self.hostvars[host] for host in self.hostvars})

    def members(self, group: str) -> list[str]:
        return list(self.groups.get(group) or [])

    def names(self, host: str) -> list[str]:
        """List the host's variables within the project's namespaces."""
        prefixes = tuple(f"{role}_" for role in self.specs)
        return sorted(name for name in map(str, self.hostvars[host]) if name.startswith(prefixes))

    def read(self, host: str, name: str) -> tuple[Any, str]:
        """Return (value, "") or, if the value's template fails, (None, reason)."""
        if (host, name) not in self._seen:
            self._seen[host, name] = self._evaluated(host, name)
        return self._seen[host, name]

    def _evaluated(self, host: str, name: str) -> tuple[Any, str]:
        try:
            variables = self.hostvars[host]
            if name not in variables:
                return self.options.get(name, {}).get("default"), ""
            value = variables[name]
            reason = _undefined_reason(value)
            return (None, reason.replace(_WRAPPER, "")) if reason else (_plain(value), "")
        except Exception as error:  # noqa: BLE001 - any error of a template is a finding, not a traceback
            return None, _reason(error)

    def value(self, host: str, name: str) -> Any:
        return self.read(host, name)[0]

    def is_secret(self, name: str) -> bool:
        return bool(self.options.get(name, {}).get("no_log"))

    def shown(self, name: str, value: Any) -> str:
        return "(hidden)" if self.is_secret(name) else repr(value)


def _reason(error: BaseException) -> str:
    # Ansible wraps the error of a value in that of its user; the operator needs the first.
    return " ".join(str(error).replace(_WRAPPER, "").split()) or type(error).__name__


def _undefined_reason(value: Any) -> str:
    """Jinja's undefined values and Ansible's markers fail on use; they are recognised without importing either."""
    if any(kind.__name__ in ("Undefined", "Marker") for kind in type(value).__mro__):
        return str(
            getattr(value, "_undefined_message", None) or f"'{getattr(value, '_undefined_name', '?')}' is undefined"
        )
    return ""


def _plain(value: Any) -> Any:
    """Copy into plain Python types: a lazy container fails here, inside the guard, not in the middle of a check."""
    reason = _undefined_reason(value)
    if reason:
        raise ValueError(reason)
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, bool) or value is None:
        return value
    for kind in (int, float, str):
        if isinstance(value, kind):
            return kind(value)
    return value

"""An instance's environment, and the paths that it may write to, out of the settings."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Mapping
from typing import Any

# Share of an instance's memory that V8's old generation may take. The rest is for new objects, code, buffers and
# libraries. Measured with Node.js 8: decision 52.
HEAP_SHARE = 0.75
_HEAP = re.compile(r"--max[-_]old[-_]space[-_]size\b")
_SIZE = re.compile(r"(\d+)([KMGT]?)")
_SPECIAL, _ESCAPED = re.compile(r'[\\"$`]'), r"\\\g<0>"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
RESERVED = ("PORT", "DB_CONNECTION_STRING")
# A folder there would be hidden from the instance, shared with the system, or Phoenix's own.
FORBIDDEN = (
    "/bin", "/boot", "/dev", "/etc", "/home", "/lib", "/lib64", "/opt/nodejs", "/opt/phoenix", "/proc", "/root", "/run",
    "/sbin", "/sys", "/tmp", "/usr", "/var/lib/phoenix", "/var/tmp",
)  # fmt: skip
SHARED = ("/", "/media", "/mnt", "/opt", "/srv", "/var", "/var/cache", "/var/lib", "/var/log", "/var/spool")


def text(value: Any) -> str:
    """A value as a shell or a program would write it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def errors(settings: Mapping[str, Any]) -> list[str]:
    """What can't be in an environment. No value is in the messages: they may be secret."""
    found = []
    for name, value in settings.items():
        if not _NAME.fullmatch(str(name)):
            found.append(f"{name!r} is not the name of a variable; give letters, digits and _")
        elif name in RESERVED:
            found.append(f"{name} is set by Phoenix itself; leave it out")
        elif value is None:
            found.append(f"{name} has no value; give one, or '' for an empty one, or leave the variable out")
        elif isinstance(value, (Mapping, list, tuple, set)):
            found.append(f"{name} is a list or a dictionary; give text, for example with the filter to_json")
        elif "\0" in str(value):
            found.append(f"{name} holds a NUL, which no environment can hold; remove it")
    return [f"phoenix_environment: {message}" for message in found]


def heap_mb(memory: Any) -> int:
    """V8's old generation in MB for an instance's memory limit, as systemd's MemoryMax; 0 where that names no size."""
    size = _SIZE.fullmatch(str(memory).strip())
    if not size:
        return 0
    return int(int(size[1]) * 1024.0 ** " KMGT".index(size[2] or " ") / (1 << 20) * HEAP_SHARE)


def variables(settings: Mapping[str, Any], database: str, memory: Any) -> dict[str, str]:
    """The environment: the settings as text, the database's address, and a heap that fits into the memory limit.

    A heap that the settings or the start command give is kept: node takes the last one, and the command's follows.
    """
    found = {name: text(value) for name, value in settings.items()}
    options, heap = found.get("NODE_OPTIONS", ""), heap_mb(memory)
    if heap and not _HEAP.search(options):
        found["NODE_OPTIONS"] = f"{options} --max-old-space-size={heap}".strip()
    return {**found, "DB_CONNECTION_STRING": database}


def lines(variables: Mapping[str, str]) -> str:
    """An environment as a file for systemd, which undoes backslash escapes within double quotes."""
    ordered = sorted(variables, key=str.lower)
    return "".join(f'{name}="{_SPECIAL.sub(_ESCAPED, str(variables[name]))}"\n' for name in ordered)


def trusted_file(environment: str) -> str:
    """The file of the database's CAs that an environment, in a file for systemd, names; "" where it names none."""
    found = re.search(r'^NODE_EXTRA_CA_CERTS="(/etc/ssl/phoenix/[\w.-]+)"$', environment, re.MULTILINE)
    return found[1] if found else ""


def path_errors(paths: Iterable[Any]) -> list[str]:
    """Which paths an instance can't be given to write to."""
    found = []
    for path in paths:
        if not isinstance(path, str) or not re.fullmatch(r"/[^\s%:\"'\\]*", path) or posixpath.normpath(path) != path:
            found.append(f"{path!r} is not a plain absolute path; give one such as /var/lib/myapp/uploads")
        elif path in SHARED or any(path == one or path.startswith(f"{one}/") for one in FORBIDDEN):
            found.append(f"{path} is the system's or Phoenix's own; give a folder of the application's own, such as "
                         "/var/lib/myapp/uploads")  # fmt: skip
    return [f"phoenix_writable_paths: {message}" for message in found]

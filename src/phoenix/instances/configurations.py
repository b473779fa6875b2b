"""The revisions of the configuration on this host: written side by side, each named by its content.

A revision is a folder with all that an instance is started with besides its release: `environment`, and `unit.conf`,
the unit settings, with the version of Node.js. An instance has a link to its revision, as it has to its release, which
is the folder of its unit's drop-ins: a restart, by whatever cause, takes what this instance was given, and no other.
"""

from __future__ import annotations

import hashlib
import os
import pwd
import re
import shutil
import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from phoenix.common import files
from phoenix.instances import paths
from phoenix.instances.model import Change

ENVIRONMENT, UNIT = "environment", "unit.conf"
DIGITS = 12
# Of the folders that the application writes to.
USER, FOLDER_MODE = "phoenix", 0o750
NONE: Mapping[str, str] = MappingProxyType({})
# A value may have several lines.
VARIABLE = re.compile(r'^([A-Za-z_]\w*)="((?:[^"\\]|\\.)*)"$', re.M | re.S)
ESCAPED = re.compile(r"\\(.)", re.S)
# What the template says itself, or what would follow no revision.
NOT_ADOPTED = ("ExecStart=", "EnvironmentFile=", "Type=", "User=", "Group=", "WorkingDirectory=")


class NotWritten(Exception):
    """The configuration is not on this host, or can't be given to an instance; the text says why."""


def name_of(template: str, unit: str, environment: str, more: Mapping[str, str] = NONE) -> str:
    """The name of this content. The template is part of it: a change of it is rolled out like any other."""
    digest = hashlib.sha256()
    for text in (template, unit, environment, *(part for one in sorted(more.items()) for part in one)):
        digest.update(hashlib.sha256(text.encode()).digest())
    return digest.hexdigest()[:DIGITS]


def names() -> list[str]:
    """The configurations on this host."""
    return sorted(path.name for path in paths.CONFIGURATIONS.glob("[!.]*") if path.is_dir())


def accepted() -> str:
    """The configuration that new instances get; "" without one."""
    return Path(files.target(paths.CONFIGURATION)).name


def of(port: int) -> str:
    """The configuration of an instance; "" without one."""
    return Path(files.target(paths.drop_ins(port))).name


def written(name: str) -> Path:
    """The configuration's folder. Raises NotWritten."""
    folder = paths.CONFIGURATIONS / name
    if not name or not (folder / UNIT).is_file():
        raise NotWritten(f"{folder} is not on this host: site.yml has to write it first")
    return folder


def link(port: int, name: str) -> bool:
    """Give an instance this configuration from its next start on; whether systemd has to read its units again.

    Raises NotWritten.
    """
    folder = paths.drop_ins(port)
    if folder.is_dir() and not folder.is_symlink():
        raise NotWritten(
            f"{folder} is a folder of its own, made by systemctl edit, and has to be a link. Set its contents in the "
            f"inventory, or for all instances in {paths.template()}.d, and remove it"
        )
    target = written(name)
    if files.target(folder) == str(target):
        return False
    files.point(folder, target)
    return True


def accept(name: str) -> list[Change]:
    """Make it the configuration of new instances. Raises NotWritten."""
    folder = written(name)
    if files.target(paths.CONFIGURATION) == str(folder):
        return []
    files.point(paths.CONFIGURATION, folder)
    return [Change("current", configuration=name)]


def with_node(unit: str) -> str:
    """The unit settings with the version of Node.js that is installed now, in place of the link to it."""
    version = files.target(paths.NODEJS)
    return unit.replace(str(paths.NODEJS), str(paths.NODEJS.parent / version)) if version else unit


def write(template: str, unit: str, environment: str, more: Mapping[str, str] = NONE) -> str:
    """Write the revision, as a whole or not at all, and return its name. One that was damaged is replaced."""
    content = {**more, ENVIRONMENT: environment, UNIT: unit}
    return _write(name_of(template, unit, environment, more), content)


def _write(name: str, content: Mapping[str, str]) -> str:
    folder = paths.CONFIGURATIONS / name
    if all(_text(folder / file) == text for file, text in content.items()):
        return name
    paths.CONFIGURATIONS.mkdir(mode=0o755, parents=True, exist_ok=True)
    if folder.is_dir():  # in use, perhaps: each file by itself, so that there is one at any time
        _fill(folder, content)
        return name
    partial = Path(tempfile.mkdtemp(prefix=f".{name}.", dir=paths.CONFIGURATIONS))
    try:
        _fill(partial, content)
        partial.chmod(0o755)
        partial.replace(folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return name


def _fill(folder: Path, content: Mapping[str, str]) -> None:
    for file, text in content.items():
        files.replace(folder / file, text, 0o644 if file == UNIT else 0o600, durable=True)


def export(name: str) -> dict[str, Any]:
    """The revision, for another host with the same settings. Raises NotWritten."""
    return {"name": name, "files": {path.name: _text(path) for path in sorted(written(name).iterdir())}}


def receive(given: Mapping[str, Any]) -> list[Change]:
    """Write the revision of another host with the same settings beside others, and create what it writes to.

    Raises NotWritten where the Node.js that it names is missing, or a folder can't be created.
    """
    missing = [folder for folder in _nodes(given) if not Path(folder).is_dir()]
    if missing:
        raise NotWritten(f"{', '.join(missing)} is not on this host; run site.yml, which installs it")
    for folder in _writable(given):
        _create(folder)
    if given["name"] in names():
        return []
    _write(given["name"], given["files"])
    return [Change("write", configuration=given["name"])]


def _nodes(given: Mapping[str, Any]) -> list[str]:
    """The folders of Node.js that an exported revision names."""
    return re.findall(rf"{paths.NODEJS.parent}/[^/:]+", given["files"][UNIT])


def _writable(given: Mapping[str, Any]) -> list[Path]:
    """The folders that the application writes to, by an exported revision. systemd starts no unit without them."""
    found = re.findall(r"^ReadWritePaths=(.*)$", given["files"][UNIT], re.M)
    return [Path(path) for line in found for path in line.split() if path.startswith("/")]


def _create(folder: Path) -> None:
    """Create a folder that is missing, and those above it, as roles/phoenix/tasks/install.yml does.

    Raises NotWritten.
    """
    if folder.is_dir():
        return
    above = [one for one in folder.parents if not one.exists()]
    try:
        user = pwd.getpwnam(USER)
        for path in (*reversed(above), folder):
            path.mkdir(FOLDER_MODE)
            # No link: the application, which may own the folder above, could lead root elsewhere by one.
            handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                os.fchown(handle, user.pw_uid, user.pw_gid)
                os.fchmod(handle, FOLDER_MODE)  # whatever the umask
            finally:
                os.close(handle)
    except (OSError, KeyError) as error:
        raise NotWritten(
            f"{folder}, which the application writes to, is not on this host, and can't be created ({error}); run "
            "site.yml, which creates it"
        ) from error


def take_over(given: Mapping[str, Any]) -> list[Change]:
    """Begin with the revision that another host with the same settings serves with.

    So a host that is added in the same run in which settings change starts its instances with what was accepted, and
    gets the new revision with the rest, behind the canary. Its name is the other host's: it comes of an older template.
    Not where this host has an accepted one already, or lacks the Node.js that it names.
    """
    if accepted() or not all(Path(folder).is_dir() for folder in _nodes(given)):
        return []
    return [*receive(given), *accept(given["name"])]


def adopt(ports: Collection[int]) -> list[Change]:
    """Give instances of version 0.9, which shared one environment and one unit, these as their first revision."""
    if accepted() or not paths.SHARED_ENVIRONMENT.is_file():
        return []
    template = _text(paths.template())
    section = template.partition("[Service]\n")[2].partition("\n[")[0]
    lines = [line for line in section.splitlines() if not line.startswith(NOT_ADOPTED)]
    unit = with_node("[Service]\n" + "\n".join(lines) + "\n")
    name = write(template, unit, _text(paths.SHARED_ENVIRONMENT))
    for port in ports:
        link(port, name)
    return [Change("write", configuration=name), *accept(name)]


def configure(
    template: str, unit: str, environment: str, ports: Collection[int], check: bool, more: Mapping[str, str] = NONE
) -> tuple[str, list[Change], list[str]]:
    """Write the template of the units, and the revision beside the others; nothing uses it yet.

    `more` are files of the processes besides the instances, `ports` those of this host's instances. Returns the
    revision's name, what was changed, and how it differs from the accepted one.
    """
    unit = with_node(unit)
    name = name_of(template, unit, environment, more)
    needed = name not in names() or _text(paths.template()) != template
    changes = [Change("write", configuration=name)] if needed else []
    if not check:
        adopted = adopt(ports)
        if needed:
            files.replace(paths.template(), template, durable=True)
        write(template, unit, environment, more)
        changes = adopted + changes
    return name, changes, differences((unit, environment), accepted())


def prune(besides: Collection[str] = ()) -> list[Change]:
    """Remove every revision that nothing uses: it may hold secrets that were replaced since."""
    links = paths.UNITS.glob("phoenix@*.service.d")
    used = {accepted(), *besides, *(Path(files.target(link)).name for link in links)}
    used.add(paths.processes().get("configuration", ""))
    removed = [name for name in names() if name not in used]
    for name in removed:
        shutil.rmtree(paths.CONFIGURATIONS / name)
    return [Change("remove", configuration=name) for name in removed]


def differences(content: tuple[str, str], name: str) -> list[str]:
    """How unit and environment differ from those of a revision, in lines for people: variables without their values."""
    if not name:
        return []
    unit, environment = content
    folder = paths.CONFIGURATIONS / name
    before, after = (set(text.splitlines()) for text in (_text(folder / UNIT), unit))
    old, new = (dict(VARIABLE.findall(text)) for text in (_text(folder / ENVIRONMENT), environment))
    changed = [variable for variable in sorted({*old, *new}) if old.get(variable) != new.get(variable)]
    lines = [f"- {line}" for line in sorted(before - after)] + [f"+ {line}" for line in sorted(after - before)]
    return lines + [f"environment: {variable}" for variable in changed]


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="surrogateescape")
    except FileNotFoundError:
        return ""

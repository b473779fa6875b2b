"""Whether programs from a vendor's archive run on a host."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

# ldd says: "libcrypto.so.1.1 => not found", and "mongod: …: version `GLIBC_2.36' not found (required by …)".
MISSING = re.compile(r"^\s*(\S+) => not found$", re.MULTILINE)
TOO_OLD = re.compile(r"version `(\S+)' not found")


def errors(
    linked: Sequence[Mapping[str, Any]], ran: Sequence[Mapping[str, Any]], brought: Collection[str]
) -> list[str]:
    """What is wrong with the programs (`item`), from the results of `ldd` and of `--version`.

    brought: libraries that are installed with them; without these, a program can't be asked yet.
    """
    wrong = []
    for links, answer in zip(linked, ran):
        name, shown = str(links["item"]), f"{links.get('stdout', '')}\n{links.get('stderr', '')}"
        missing, old = MISSING.findall(shown), sorted(set(TOO_OLD.findall(shown)))
        lacking = [library for library in missing if library not in brought]
        if lacking or old:
            wrong.append(f"{name} needs {', '.join([*lacking, *old])}, which it lacks")
        elif answer.get("rc") != 0 and not missing:
            said = str(answer.get("stderr") or answer.get("stdout") or answer.get("msg") or "").strip().splitlines()
            wrong.append(f"{name} --version ends with {answer.get('rc', 'no status')}: {' / '.join(said[-3:])}")
    return wrong


def libraries(facts: Mapping[str, Any]) -> list[str]:
    """What MongoDB's programs need and the package of libcurl brings (phoenix.fleet.hosts.libcurl), with liblzma5."""
    ssl = "1.1" if int(facts["distribution_major_version"]) < 12 else "3"
    others = ("libcurl.so.4", "liblzma.so.5", "libgssapi_krb5.so.2", "libkrb5.so.3")
    return [*others, f"libssl.so.{ssl}", f"libcrypto.so.{ssl}"]


# By the prefix of their settings.
PROGRAMS = {
    "nodejs": ["bin/node"],
    "mongodb": ["bin/mongod"],
    "mongodb_tools": ["bin/mongodump", "bin/mongorestore"],
}


def archives(variables: Mapping[str, Any], names: Sequence[str]) -> list[dict[str, Any]]:
    """The archives of these names, as the role preflight takes them; an inventory on `control` has none."""
    return [
        {
            "name": name.replace("_", "-"),
            "version": variables[f"{name}_version"],
            "source": variables[f"{name}_archive"],
            "checksum": variables[f"{name}_archive_checksum"],
            "programs": PROGRAMS[name],
        }
        for name in names
        if f"{name}_archive" in variables and f"{name}_version" in variables
    ]


def due(archives: Sequence[Mapping[str, Any]], marks: Collection[str]) -> list[Mapping[str, Any]]:
    """The archives that are not unpacked on a host yet, from the marks of those that are (roles/archive)."""
    return [
        one
        for one in archives
        if f"/opt/{one['name']}/{one['version']}/.phoenix-archive-{str(one['checksum']).rpartition(':')[2]}"
        not in marks
    ]

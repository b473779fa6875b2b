"""Names of the database's members with an IPv6 address, and the block of /etc/hosts by which each host resolves them.

Node.js's drivers before 4.0 take an IPv6 address in the replica set's configuration, with its brackets, for a name.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

WANTED = Path("/etc/phoenix/names")
HOSTS = Path("/etc/hosts")
BEGIN, END = "# BEGIN Phoenix", "# END Phoenix"
NAME = re.compile(r"[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*")
LONGEST = 253
# Also one whose end is missing: the file is not replaced, as it may be a mount, and writing may be cut.
BLOCK = re.compile(rf"^{BEGIN}\n(?:[0-9A-Fa-f:.%]+ \S+\n)*(?:{END}\n)?", re.MULTILINE)


def name(host: str, address: str, domain: str) -> str:
    """The name by which the replica set knows the member; its address where that is IPv4, or without a domain."""
    return f"{host}.{domain}".lower() if ":" in address and domain else address


def known_as(member: Mapping[str, Any]) -> str:
    """What stands for a member in the set's configuration and in connection strings."""
    return str(member.get("name") or member["address"])


def addresses(members: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """The addresses of the members that have names of their own, by those."""
    return {known_as(member): str(member["address"]) for member in members if known_as(member) != member["address"]}


def errors(members: Iterable[Any]) -> Iterator[str]:
    """What is wrong with the members' names; another check reports what is no member at all."""
    for name in (str(member["name"]) for member in members if isinstance(member, Mapping) and member.get("name")):
        if not NAME.fullmatch(name) or len(name) > LONGEST:
            yield (
                f"mongodb_members: {name!r} is no name of a host; give the host of the group db a name of letters, "
                "digits, - and _, or set another phoenix_database_domain"
            )


def with_block(text: str, wanted: str) -> str:
    """A hosts file's text with the wanted lines as its last block, and no other one; comments of these are left out."""
    own = BLOCK.sub("", text)
    lines = [line for line in wanted.splitlines() if line and not line.startswith("#")]
    if not lines:
        return own
    return "\n".join([own.rstrip("\n"), BEGIN, *lines, END, ""])


def keep(hosts: Path, wanted: str, *, check: bool = False) -> bool:
    """Bring the block of a hosts file to the wanted lines, in place; return whether it was another one."""
    text = hosts.read_text(encoding="utf-8", errors="surrogateescape")
    new = with_block(text, wanted)
    if new != text and not check:
        with hosts.open("r+", encoding="utf-8", errors="surrogateescape") as file:
            # One write, in which the lines before the block stay as they are: a reader always finds them.
            file.write(new)
            file.truncate()
    return new != text


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("verb", choices=("keep",))
    parser.add_argument("--check", action="store_true", help="only print whether the file would change")
    options = parser.parse_args(arguments)
    if keep(HOSTS, WANTED.read_text(encoding="utf-8"), check=options.check):
        print(f"{HOSTS}: the block of Phoenix {'would be' if options.check else 'was'} written")
    return 0

"""The members' shared key, and its change without a moment in which two members refuse each other.

A server accepts every key of its file and offers the first; where that is refused, it offers the next one. So each
member first gets the new key beside its own, and loses the old one once all of them run with both.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

MOST = 2  # keys in a file: a server with a third one does not start
KEY = re.compile(r"[A-Za-z0-9+/=]{6,1024}")


def keys(content: str) -> list[str]:
    """The keys of a key file: a sequence in YAML, or a single key; the server ignores white space within one."""
    lines = [line for line in content.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    if not lines or not lines[0].startswith("- "):
        return ["".join("".join(lines).split())] if lines else []
    found: list[str] = []
    for line in lines:
        if line.startswith("- "):
            found.append("")
        found[-1] += "".join(line.removeprefix("- ").split())
    return found


def render(wanted: Sequence[str]) -> str:
    return f"{wanted[0]}\n" if len(wanted) == 1 else "".join(f"- {key}\n" for key in wanted)


def beside(content: str, wanted: str) -> str:
    """The file with the wanted key beside the present ones, which stay first; as it is where it holds the key."""
    (new,) = keys(wanted)
    present = keys(content)
    return content if new in present else render([*present, new])


def unfit(host: str, content: str, wanted: str) -> str:
    """Why the wanted key may not be put beside those of a member's file; "" where it may, or is there already."""
    given = keys(wanted)
    if len(given) != 1 or not KEY.fullmatch(given[0]):
        return (
            "mongodb_keyfile_content = (hidden) is not one key of 6 to 1024 base64 characters, so that no key was "
            "changed. Generate it with openssl rand -base64 756."
        )
    if len(keys(beside(content, wanted))) > MOST:
        return (
            f"{host} has two keys of a change that was cut, and mongodb_keyfile_content is neither, so that no key was "
            f"changed: a server reads {MOST} at most. Give the second one of its /etc/mongod.key, complete that change "
            "with playbooks/rotate-database.yml, and give this one afterwards."
        )
    return ""


def spread(contents: Iterable[str], wanted: str) -> bool:
    """Whether every member's file holds the wanted key, so that the others may go once all members have read theirs."""
    (new,) = keys(wanted)
    return all(new in keys(content) for content in contents)


def refusal(host: str, content: str, wanted: str) -> str:
    """Why a member's file may not be replaced by the wanted key at once; "" where it is the same, or there is none."""
    if not keys(content) or keys(content) == keys(wanted):
        return ""
    return (
        f"mongodb_keyfile_content is another key than {host} has: with it the member would not be let into the set. "
        "playbooks/rotate-secrets.yml changes it, with both valid side by side."
    )


def former(contents: Iterable[str], wanted: str) -> list[str]:
    """The keys in these files that are not the wanted one, which have to be refused afterwards."""
    (new,) = keys(wanted)
    return list(dict.fromkeys(key for content in contents for key in keys(content) if key != new))

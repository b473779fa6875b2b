"""The password of an inventory's vault replaced: whole files, and values within them. Runs where Ansible runs.

python -m phoenix vault rekey FOLDER --former FILE --new FILE    the passwords are in these files, or printed by them
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from phoenix.common import files

HEADER = "$ANSIBLE_VAULT;"
# A value within a file: its lines, each with the same white space before it.
VALUE = re.compile(
    r"(?P<lead>!vault \|-?[ \t]*\n)"
    r"(?P<body>(?P<indent>[ \t]+)\$ANSIBLE_VAULT;\S+\n(?:(?P=indent)[0-9a-f]+(?:\n|\Z))+)"
)
# Any other form of one.
OTHER = re.compile(r"^[^#\n]*\$ANSIBLE_VAULT;[0-9.]+;.*", re.MULTILINE)
# An encrypted text under another password.
Change = Callable[[str], str]


class Refused(Exception):
    """Nothing was changed, or not everything; the message says what is in the way."""


def password(path: Path) -> str:
    """A password as Ansible itself reads it: what the file holds or, if it is a program, prints. Raises Refused."""
    from ansible.errors import AnsibleError  # noqa: PLC0415 - not on the hosts
    from ansible.parsing.dataloader import DataLoader  # noqa: PLC0415
    from ansible.parsing.vault import get_file_vault_secret  # noqa: PLC0415

    try:
        secret = get_file_vault_secret(filename=str(path), loader=DataLoader())
        secret.load()
        return str(secret.bytes.decode())
    except (AnsibleError, UnicodeDecodeError) as error:
        raise Refused(f"{path} gives no password: {error}; no file was changed") from error


def change(former: str, new: str) -> Change:
    """Raises Refused, from the function that it returns, for a text that neither password opens."""
    from ansible.parsing.vault import AnsibleVaultError, VaultLib, VaultSecret  # noqa: PLC0415 - not on the hosts

    def opened(text: str, password: str) -> bytes | None:
        try:
            return bytes(VaultLib([("default", VaultSecret(password.encode()))]).decrypt(text.encode()))
        except AnsibleVaultError:
            return None

    def changed(text: str) -> str:
        if opened(text, new) is not None:
            return text
        plain = opened(text, former)
        if plain is None:
            raise Refused("neither the former nor the new password opens it")
        label = (text.partition("\n")[0].split(";") + [""] * 3)[3] or None
        made = str(VaultLib().encrypt(plain, VaultSecret(new.encode()), vault_id=label).decode())
        if opened(made, new) != plain or opened(made, former) is not None:
            raise Refused("what was encrypted does not open with the new password alone")
        return made

    return changed


def rewritten(text: str, change: Change) -> str:
    """A file's text with what is encrypted in it under the new password; the rest stays as it is. Raises Refused."""
    if text.startswith(HEADER):
        return change(text)
    if other := OTHER.search(VALUE.sub("", text)):
        raise Refused(
            f"{other[0].strip()[:60]!r} is not in the form of ansible-vault encrypt_string (!vault |); write it so"
        )

    def value(found: re.Match[str]) -> str:
        inner = "".join(f"{line.strip()}\n" for line in found["body"].splitlines())
        made = change(inner)
        if made == inner:
            return found[0]
        end = "" if not found["body"].endswith("\n") else "\n"
        return found["lead"] + "\n".join(found["indent"] + line for line in made.rstrip("\n").split("\n")) + end

    return VALUE.sub(value, text)


def texts(folder: Path) -> Iterator[tuple[Path, str]]:
    """Files with something encrypted in them."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and ".git" not in path.parts:
            try:
                text = path.read_text(encoding="utf-8")
            except UnicodeDecodeError:
                continue
            if HEADER in text:
                yield path, text


def rekey(folder: Path, former: str, new: str) -> list[Path]:
    """The files that were changed: all of them can be opened before the first one is replaced. Raises Refused."""
    one = change(former, new)
    due = []
    for path, text in texts(folder):
        try:
            made = rewritten(text, one)
        except Refused as error:
            raise Refused(f"{path}: {error}; no file was changed") from error
        if made != text:
            due.append((path, made))
    for path, made in due:
        files.replace(path.resolve(), made, path.stat().st_mode & 0o777, durable=True)
    return [path for path, _ in due]


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="phoenix vault", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    one = parser.add_subparsers(dest="verb", required=True).add_parser("rekey")
    one.add_argument("folder", type=Path)
    one.add_argument("--former", type=Path, required=True)
    one.add_argument("--new", type=Path, required=True)
    options = parser.parse_args(arguments)
    try:
        former, new = password(options.former), password(options.new)
        if former == new:
            raise Refused(f"{options.former} and {options.new} give the same password: two different ones are needed")
        changed = rekey(options.folder, former, new)
    except (OSError, Refused) as error:
        print(f"refused: {error}", file=sys.stderr)
        return 1
    print("\n".join(f"under the new password: {path}" for path in changed) or "everything is under the new password")
    return 0

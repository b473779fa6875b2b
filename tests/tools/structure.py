"""Count what makes the sources hard to follow, in this checkout and in revisions of it, as a table in Markdown.

usage: python -m tests.tools.structure [REVISION] ...

docs/structure.md has the table of the last count.
"""

from __future__ import annotations

import argparse
import io
import re
import subprocess
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath

TOP = Path(__file__).resolve().parents[2]
PYTHON = re.compile(r"\A#!.*\bpython3?\b")
IN_A_TASK = re.compile(r"\bpython3? -c\b")
JINJA = re.compile(r"\{\{(.*?)\}\}|\{%(.*?)%\}", re.DOTALL)
LONG_FILE, LONG_EXPRESSION = 300, 300
# What only an implementation of each contract holds.
CONTRACTS = {
    "atomic replacement": re.compile(r"\b(partial|trial)\.replace\("),
    "systemd notification": re.compile(r"environ(\.get\(|\[)\"NOTIFY_SOCKET"),
    "Prometheus text": re.compile(r"# (TYPE|HELP) "),
    "who is primary": re.compile(r"isWritablePrimary|\bismaster\b"),
    "boot's identity": re.compile(r"/random/boot_id"),
}

OF_A_ROLE = ("a file of a role", "a program of a role")
# By path, the first that fits.
WAYS = {
    r"src/": "the package",
    r"(library|module_utils)/": "a module of Ansible",
    r"roles/\w+/templates/": "a template",
    r"roles/\w+/(files|library)/.*\.py$": OF_A_ROLE[0],
    r"roles/\w+/files/": OF_A_ROLE[1],
    r"phoenix_\w+/": "a folder that roles copy from",
}

# Path -> content, of every text of a revision.
Texts = Mapping[str, str]


def texts(revision: str = "") -> Texts:
    """The texts of a revision, or else of this checkout."""
    if not revision:
        command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        names = subprocess.run(command, cwd=TOP, capture_output=True, text=True, check=True).stdout.split("\0")
        files = {name: TOP / name for name in names if name}
        return dict(decoded((name, file.read_bytes()) for name, file in files.items() if regular(file)))
    command = ["git", "archive", revision]
    packed = subprocess.run(command, cwd=TOP, capture_output=True, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        return dict(decoded((one.name, archive.extractfile(one).read()) for one in archive if one.isfile()))  # type: ignore[union-attr]


def regular(file: Path) -> bool:
    return file.is_file() and not file.is_symlink()


def decoded(files: Iterable[tuple[str, bytes]]) -> Iterator[tuple[str, str]]:
    for name, content in files:
        try:
            yield name, content.decode()
        except UnicodeDecodeError:
            continue


def is_python(name: str, text: str) -> bool:
    return name.endswith((".py", ".py.j2")) or bool(PYTHON.match(text))


def way(name: str, text: str, known: Texts) -> str:
    """How this Python reaches a host; "" where it does not."""
    if name.endswith(".yml"):
        return "a string in a task" if name.startswith(("roles/", "playbooks/")) and IN_A_TASK.search(text) else ""
    if not is_python(name, text):
        return ""
    how = next((how for pattern, how in WAYS.items() if re.match(pattern, name)), "")
    return "a package of a role" if how in OF_A_ROLE and f"{PurePosixPath(name).parent}/__init__.py" in known else how


def on_hosts(known: Texts) -> dict[str, str]:
    """Path -> way, of all Python that reaches a host."""
    ways = {name: way(name, text, known) for name, text in known.items()}
    return {name: how for name, how in ways.items() if how}


def unchecked(known: Texts) -> int:
    """Lines of it that no mypy of tests/lint is given: it takes every program, or else the folders that it names."""
    lint = known.get("tests/lint", "")
    everything = "python_programs" in lint
    folders = re.findall(r"[\w/]+", " ".join(re.findall(r"python_paths < <\(existing (.*?)\)\n", lint, re.DOTALL)))
    lines = 0
    for name, how in on_hosts(known).items():
        if how == "a string in a task":
            lines += len(IN_A_TASK.findall(known[name]))
        elif how == "a template" or not (everything or named(name, folders)):
            lines += known[name].count("\n")
    return lines


def named(name: str, folders: Iterable[str]) -> bool:
    return name.endswith(".py") and any(name.startswith(f"{folder}/") for folder in folders)


def implementations(known: Texts) -> dict[str, int]:
    """Of each contract, the files of what reaches a host that implement it."""
    programs = [known[name] for name, how in on_hosts(known).items() if how != "a string in a task"]
    return {contract: sum(bool(sign.search(text)) for text in programs) for contract, sign in CONTRACTS.items()}


def long_files(known: Texts, tests: bool) -> int:
    """Python files over LONG_FILE lines, of the tests or of the rest."""
    return sum(
        is_python(name, text) and text.count("\n") > LONG_FILE and name.startswith("tests/") is tests
        for name, text in known.items()
    )


def expressions(known: Texts) -> list[int]:
    """The lengths of Jinja's expressions and statements in roles and playbooks, each as one line."""
    lengths = []
    for name, text in known.items():
        if name.startswith(("roles/", "playbooks/")) and not name.endswith(".md"):
            lengths += [len(" ".join((one[1] or one[2] or "").split())) for one in JINJA.finditer(text)]
    return sorted(lengths, reverse=True)


def ways_of(known: Texts) -> str:
    found = sorted({re.sub(r"^an? |^the ", "", how) for how in on_hosts(known).values()})
    return f"{len(found)}: {', '.join(found)}"


def implementations_of(known: Texts) -> str:
    return ", ".join(f"{contract} {count}" for contract, count in implementations(known).items())


ROWS: Mapping[str, Callable[[Texts], object]] = {
    "ways by which Python reaches a host": ways_of,
    "files of it that implement a contract": implementations_of,
    "lines of it outside the type checker": unchecked,
    f"Python files over {LONG_FILE} lines, without tests": lambda known: long_files(known, tests=False),
    "… and of tests": lambda known: long_files(known, tests=True),
    "longest Jinja expression, in characters": lambda known: max(expressions(known), default=0),
    f"Jinja expressions over {LONG_EXPRESSION} characters": lambda known: sum(
        length > LONG_EXPRESSION for length in expressions(known)
    ),
}


def table(columns: Mapping[str, Texts]) -> str:
    lines = [["", *columns], ["---"] * (len(columns) + 1)]
    lines += [[row, *(str(count(known)) for known in columns.values())] for row, count in ROWS.items()]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("revision", nargs="*")
    revisions = parser.parse_args().revision
    print(table({**{revision: texts(revision) for revision in revisions}, "now": texts()}))


if __name__ == "__main__":
    main()

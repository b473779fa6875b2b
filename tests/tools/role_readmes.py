"""Writes the variables of each role's README from its meta/argument_specs.yml.

usage: python -m tests.tools.role_readmes [--check]    without --check, writes; with it, only names what is not current
"""

import argparse
import re
import sys
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

TOP = Path(__file__).resolve().parents[2]
BEGIN = "<!-- Generated from meta/argument_specs.yml by `python -m tests.tools.role_readmes`. -->"
END = "<!-- End of the generated part. -->"
WIDTH = 100  # as the documents' other lines
HEAD = "| variable | type | default | description |\n|---|---|---|---|"
# Longer defaults would make the table unreadable.
LONGEST = 60


def current(role: Path) -> str:
    """The README of a role as it has to be; ValueError where it has no place for the variables."""
    readme = role / "README.md"
    text = readme.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(
            f"{readme.relative_to(TOP)} has no place for its variables: add the lines {BEGIN!r} and {END!r}"
        )
    specs = yaml.safe_load((role / "meta" / "argument_specs.yml").read_text(encoding="utf-8"))["argument_specs"]
    # Blank lines, or Markdown takes the end for a row.
    return f"{before}{BEGIN}\n\n{variables(specs)}\n\n{END}{after}"


def variables(specs: Mapping[str, Any]) -> str:
    """A table for each entry point, in Markdown."""
    parts = []
    for entry_point, spec in specs.items():
        if entry_point != "main":
            purpose = textwrap.fill(f"{_words(spec['short_description'])}.", WIDTH, break_on_hyphens=False)
            parts.append(f"### `tasks_from: {entry_point}`\n{purpose}")
        rows = list(_rows(spec.get("options") or {}))
        parts.append("\n".join([HEAD, *rows]) if rows else "No variables.")
    return "\n\n".join(parts)


def _rows(options: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for name, option in options.items():
        path = f"{prefix}{name}"
        yield f"| `{path}` | {_type(option)} | {_default(option)} | {_description(option)} |"
        suffix = "[]." if option["type"] == "list" else "."
        yield from _rows(option.get("options") or {}, path + suffix)


def _type(option: Mapping[str, Any]) -> str:
    name = f"list of {option['elements']}" if "elements" in option else option["type"]
    return f"{name}, secret" if option.get("no_log") else name


def _default(option: Mapping[str, Any]) -> str:
    """The default as one writes it in YAML; **required** or none where there is none."""
    if "default" not in option:
        return "**required**" if option.get("required") else "none"
    written = yaml.safe_dump(option["default"], default_flow_style=True, width=sys.maxsize, sort_keys=False)
    written = written.removesuffix("...\n").strip()
    return "[defaults/main.yml](defaults/main.yml)" if len(written) > LONGEST else _cell(f"`{written}`")


def _description(option: Mapping[str, Any]) -> str:
    text = _words(option["description"])
    if "choices" in option:
        text += " One of " + ", ".join(_cell(f"`{choice}`") for choice in option["choices"]) + "."
    return text


def _words(text: str | list[str]) -> str:
    """Ansible's markup for code as Markdown's, and what a table or HTML would take for its own escaped."""
    joined = " ".join([text] if isinstance(text, str) else text).strip()
    marked = re.sub(r"\bC\(([^)]*)\)", r"`\1`", joined)
    outside = re.split(r"(`[^`]*`)", marked)
    return _cell("".join(part if part.startswith("`") else part.replace("<", r"\<") for part in outside))


def _cell(text: str) -> str:
    return text.replace("|", r"\|")


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; status 1 when a README is not current")
    options = parser.parse_args(arguments)
    stale = 0
    for specs in sorted(TOP.glob("roles/*/meta/argument_specs.yml")):
        role = specs.parents[1]
        readme, wanted = role / "README.md", current(role)
        if readme.read_text(encoding="utf-8") == wanted:
            continue
        stale += 1
        if options.check:
            print(f"{readme.relative_to(TOP)} is not current: run python -m tests.tools.role_readmes", file=sys.stderr)
        else:
            readme.write_text(wanted, encoding="utf-8")
            print(f"wrote {readme.relative_to(TOP)}")
    return 1 if options.check and stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""What the documents have an operator type exists: plays and their variables, tags of site.yml, commands, targets."""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from phoenix.cli import AREAS
from tests.unit.shared import TOP, read_yaml

PAGES = sorted([*TOP.glob("*.md"), *TOP.glob("docs/*.md"), *TOP.glob("roles/*/README.md")])
# A changelog names what there was.
PAGES.remove(TOP / "CHANGELOG.md")


def tags_of(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        tags = node.get("tags", [])
        yield from [tags] if isinstance(tags, str) else tags
        node = list(node.values())
    if isinstance(node, list):
        for part in node:
            yield from tags_of(part)


@cache
def variables() -> set[str]:
    """All words of what a play may read, which an option -e can give."""
    folders = ("playbooks", "roles", "inventories")
    files = [path for folder in folders for suffix in ("yml", "j2") for path in (TOP / folder).rglob(f"*.{suffix}")]
    return {word for path in files for word in re.findall(r"\w+", path.read_text(encoding="utf-8"))}


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(TOP)))
def test_what_a_page_has_one_type_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    plays = {path.name for path in (TOP / "playbooks").glob("*.yml")}
    targets = set(re.findall(r"^([a-z-]+):", (TOP / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    # Roles carry no tags: each play of site.yml has those of its roles, and what has always runs with any.
    tags = {*tags_of(read_yaml(TOP / "playbooks/site.yml")), "toolkit"}
    assert set(re.findall(r"\bplaybooks/([a-z-]+\.yml)", text)) - plays == set()
    assert {
        tag for found in re.findall(r"--(?:skip-)?tags[ =]([\w,]+)", text) for tag in found.strip(",").split(",")
    } - tags == set()
    assert set(re.findall(r"(?:`|^)make ([a-z-]+)", text, re.MULTILINE)) - targets == set()
    assert set(re.findall(r"-e ([a-z]\w*)=", text)) - variables() == set()
    assert set(re.findall(r"`(?:sudo )?phoenixctl ([a-z]+)\b", text)) - set(AREAS) == set()

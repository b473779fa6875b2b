"""Every role's README: its variables are those of the role, and no section is missing."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.tools import role_readmes
from tests.unit.shared import ROLES, TOP, read_yaml

SECTIONS = ["Variables", "Files it owns", "Check mode", "Roll back"]
ROW = re.compile(r"^\| `(\w+)` \| ([^|]+) \| (.+?) \| (.+) \|$", re.M)


def readme(role: str) -> str:
    return (TOP / "roles" / role / "README.md").read_text(encoding="utf-8")


def rows(role: str) -> Iterator[tuple[str, str]]:
    """List (variable, cell of its default) of the tables as a reader sees them."""
    for match in ROW.finditer(readme(role)):
        yield match[1], match[3].replace(r"\|", "|")


def test_every_readme_is_current(capsys: pytest.CaptureFixture[str]) -> None:
    assert role_readmes.main(["--check"]) == 0, capsys.readouterr().err


@pytest.mark.parametrize("role", ROLES)
def test_the_readme_shows_the_defaults_that_the_role_has(role: str) -> None:
    """Parsed from the README itself, so that an error of the generator shows, too."""
    defaults: dict[str, Any] = read_yaml(TOP / "roles" / role / "defaults" / "main.yml")
    specs = read_yaml(TOP / "roles" / role / "meta" / "argument_specs.yml")["argument_specs"]
    options = {name: option for spec in specs.values() for name, option in (spec.get("options") or {}).items()}
    seen = dict(rows(role))
    assert sorted(seen) == sorted(options)
    for name, cell in seen.items():
        if cell == "[defaults/main.yml](defaults/main.yml)":
            assert len(str(defaults[name])) > role_readmes.LONGEST / 2, f"{name}: short enough for the table"
        elif name in defaults:
            assert yaml.safe_load(cell.strip("`")) == defaults[name] == options[name]["default"]
        else:
            assert cell == ("**required**" if options[name].get("required") else "none")


@pytest.mark.parametrize("role", ROLES)
def test_the_readme_has_every_section(role: str) -> None:
    text = readme(role)
    assert [title for title in re.findall(r"^## (.+)$", text, re.M) if title in SECTIONS] == SECTIONS
    assert re.match(rf"# {role}\n\n\S", text), "no purpose below the title"
    assert "```yaml\n" in text.partition("\n## Variables")[0], "no example before the variables"
    # What owns no file leaves nothing behind.
    back = " ".join(text.partition("\n## Roll back")[2].split())
    assert "To uninstall:" in back or back.startswith("None; it changes nothing.")


SPECS = {
    "main": {
        "short_description": "Main",
        "options": {
            "x_mode": {"type": "str", "default": "no", "choices": ["no", "a|b"], "description": "As C(A|B) <c>."},
            "x_key": {"type": "str", "required": True, "no_log": True, "description": ["First.", "Second."]},
            "x_free": {"type": "float", "description": "Optional."},
            "x_long": {"type": "list", "elements": "str", "default": ["y" * 80], "description": "Long."},
            "x_hosts": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "description": "Hosts.",
                "options": {"port": {"type": "int", "default": 1, "description": "Port."}},
            },
        },
    },
    "other": {"short_description": "Does more"},
}
TABLE = rf"""{role_readmes.HEAD}
| `x_mode` | str | `'no'` | As `A\|B` \<c>. One of `no`, `a\|b`. |
| `x_key` | str, secret | **required** | First. Second. |
| `x_free` | float | none | Optional. |
| `x_long` | list of str | [defaults/main.yml](defaults/main.yml) | Long. |
| `x_hosts` | list of dict | `[]` | Hosts. |
| `x_hosts[].port` | int | `1` | Port. |

### `tasks_from: other`
Does more.

No variables."""


def test_a_table_shows_every_kind_of_option() -> None:
    assert role_readmes.variables(SPECS) == TABLE


@pytest.fixture
def role(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A role whose README is not current."""
    monkeypatch.setattr(role_readmes, "TOP", tmp_path)
    folder = tmp_path / "roles" / "x"
    (folder / "meta").mkdir(parents=True)
    (folder / "meta" / "argument_specs.yml").write_text(yaml.safe_dump({"argument_specs": SPECS}, sort_keys=False))
    (folder / "README.md").write_text(f"# x\n{role_readmes.BEGIN}\nold\n{role_readmes.END}\nThe rest.\n")
    return folder


def test_a_check_reports_a_stale_readme_and_leaves_it_unchanged(role: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (role / "README.md").read_text()
    assert role_readmes.main(["--check"]) == 1
    assert "roles/x/README.md is not current: run python -m tests.tools.role_readmes" in capsys.readouterr().err
    assert (role / "README.md").read_text() == before


def test_a_stale_readme_is_rewritten_once_and_the_rest_kept(role: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert role_readmes.main([]) == 0
    text = (role / "README.md").read_text()
    assert text == f"# x\n{role_readmes.BEGIN}\n\n{TABLE}\n\n{role_readmes.END}\nThe rest.\n"
    assert "wrote roles/x/README.md" in capsys.readouterr().out
    assert role_readmes.main(["--check"]) == role_readmes.main([]) == 0
    assert capsys.readouterr().out == ""


def test_a_readme_without_a_place_for_the_variables_is_refused(role: Path) -> None:
    (role / "README.md").write_text("# x\n")
    with pytest.raises(ValueError, match=r"roles/x/README\.md has no place for its variables: add the lines"):
        role_readmes.main([])

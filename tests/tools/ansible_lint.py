"""ansible-lint without what other steps of tests/lint check, and with a cheaper copy of each task for each rule.

Its syntax checks start ansible-playbook for each playbook, each role and each import; `tests/lint syntax` starts it
once for all, which takes a tenth of the time. Its rule `yaml` runs yamllint, as `tests/lint yamllint` does on all
files. And it loads each file a second time for comments that skip rules: here only one that has such a comment.
"""

from __future__ import annotations

import copy
import functools
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ansible_compat.runtime import Runtime
from ansiblelint import file_utils, skip_utils, utils
from ansiblelint.__main__ import main
from ansiblelint.errors import MatchError
from ansiblelint.file_utils import Lintable
from ansiblelint.rules import yaml_rule
from ansiblelint.rules.yaml_rule import YamllintRule
from ansiblelint.runner import Runner
from ansiblelint.yaml_utils import load_yamllint_config
from yamllint.config import YamlLintConfig

from tests.tools import copies


def no_files(self: Runner) -> list[Lintable]:
    return []


def loads(self: Runtime, playbook: str, *, basedir: Path | None = None) -> bool:
    return True


yaml_matches, skips = YamllintRule.matchyaml, vars(skip_utils)["_append_skipped_rules"]


def yamllint_differs() -> list[str]:
    """The rules of which ansible-lint's configuration of yamllint is not that of .yamllint."""
    own, other = load_yamllint_config().rules, YamlLintConfig(Path(".yamllint").read_text(encoding="utf-8")).rules
    return [name for name in sorted({*own, *other}) if own.get(name) != other.get(name)]


def other_yaml(self: YamllintRule, file: Lintable) -> list[MatchError]:
    """Leave out what yamllint finds by itself."""
    return [] if file.path.suffix in (".yaml", ".yml") else yaml_matches(self, file)


def skips_of_comments(data: Any, file: Lintable) -> Any:
    """Return None, as for a file without any, where nothing in it could skip a rule."""
    return skips(data, file) if "noqa" in file.content else None


if __name__ == "__main__":
    # Inner parts of the pinned version: fail rather than check twice in silence when a later one lacks them.
    assert (
        hasattr(Runner, "_collect_syntax_check_files")
        and hasattr(Runtime, "has_playbook")
        and vars(utils)["copy"] is copy
    )
    Runner._collect_syntax_check_files = no_files  # type: ignore[method-assign]
    Runtime.has_playbook = loads  # type: ignore[method-assign]
    if differing := yamllint_differs():
        sys.exit(f".yamllint: {', '.join(differing)}: ansible-lint requires another value; set it here as well")
    YamllintRule.matchyaml = other_yaml  # type: ignore[method-assign]
    # It imports its rules by their files' names alone: without this, the rule as it was would be there as well.
    sys.modules["yaml_rule"] = yaml_rule
    vars(skip_utils)["_append_skipped_rules"] = skips_of_comments
    vars(utils)["copy"] = SimpleNamespace(deepcopy=copies.copied)
    copies.patch()
    file_utils.kind_from_path = functools.cache(file_utils.kind_from_path)
    sys.exit(main(sys.argv))

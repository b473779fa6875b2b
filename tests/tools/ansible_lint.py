"""ansible-lint without its own syntax checks, and with a cheaper copy of each task for each rule.

Those checks start ansible-playbook for each playbook, each role and each import; `tests/lint syntax` starts it once for
all, which takes a tenth of the time.
"""

from __future__ import annotations

import copy
import functools
import sys
from pathlib import Path
from types import SimpleNamespace

from ansible_compat.runtime import Runtime
from ansiblelint import file_utils, utils
from ansiblelint.__main__ import main
from ansiblelint.file_utils import Lintable
from ansiblelint.runner import Runner

from tests.tools import copies


def no_files(self: Runner) -> list[Lintable]:
    return []


def loads(self: Runtime, playbook: str, *, basedir: Path | None = None) -> bool:
    return True


if __name__ == "__main__":
    # Inner parts of the pinned version: fail rather than check twice in silence when a later one lacks them.
    assert (
        hasattr(Runner, "_collect_syntax_check_files")
        and hasattr(Runtime, "has_playbook")
        and vars(utils)["copy"] is copy
    )
    Runner._collect_syntax_check_files = no_files  # type: ignore[method-assign]
    Runtime.has_playbook = loads  # type: ignore[method-assign]
    vars(utils)["copy"] = SimpleNamespace(deepcopy=copies.copied)
    copies.patch()
    file_utils.kind_from_path = functools.cache(file_utils.kind_from_path)
    sys.exit(main(sys.argv))

"""ansible-lint without its own syntax check.

That one starts ansible-playbook for each playbook and each role; `tests/lint syntax` starts it once for all, which
takes a tenth of the time.
"""

from __future__ import annotations

import sys

from ansiblelint.__main__ import main
from ansiblelint.file_utils import Lintable
from ansiblelint.runner import Runner


def no_files(self: Runner) -> list[Lintable]:
    return []


if __name__ == "__main__":
    # A private method of the pinned version: fail rather than check twice in silence when a later one lacks it.
    assert hasattr(Runner, "_collect_syntax_check_files")
    Runner._collect_syntax_check_files = no_files  # type: ignore[method-assign]
    sys.exit(main(sys.argv))

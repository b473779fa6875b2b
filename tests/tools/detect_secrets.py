"""detect-secrets' hook, which finds the same in a sixth of the time; with --no-verify only.

Each line goes through its filters, and then to every detector, by an indirection that costs more than the detectors.
Here these come first, once for each different line, and of most only the expressions without which they find nothing:
what one of them knows goes the whole way.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from detect_secrets.core import scan
from detect_secrets.core.potential_secret import PotentialSecret
from detect_secrets.plugins import keyword
from detect_secrets.plugins.base import BasePlugin, RegexBasedDetector
from detect_secrets.pre_commit_hook import main
from detect_secrets.settings import get_plugins
from detect_secrets.util.code_snippet import get_code_snippet
from detect_secrets.util.filetype import FileType, determine_file_type

# The file's type is all that a detector takes from its name.
quiet: set[tuple[FileType, str]] = set()
KEYWORDS = re.compile("|".join(keyword.DENYLIST), re.IGNORECASE)


def searches(detectors: Sequence[BasePlugin], filename: str) -> list[Callable[[str], object]]:
    """Return what finds something in each line of the file in which one of these detectors does."""
    found: list[Callable[[str], object]] = []
    for one in detectors:
        kind = type(one)
        plain = (kind.analyze_line, kind.analyze_string) == (BasePlugin.analyze_line, RegexBasedDetector.analyze_string)
        if plain and isinstance(one, RegexBasedDetector):
            found += [expression.search for expression in one.denylist]
        elif kind is keyword.KeywordDetector:
            found.append(KEYWORDS.search)
        else:  # a detector of another kind itself
            found.append(partial(one.analyze_line, filename, line_number=0))
    return found


def process(lines: Sequence[tuple[int, str]], filename: str) -> Iterator[PotentialSecret]:
    """As detect_secrets.core.scan's own."""
    content = [line for _, line in lines]
    kind = determine_file_type(filename)
    quick = searches(get_plugins(), filename)
    for number, text in lines:
        line = text.rstrip()
        if (kind, line) in quiet:
            continue
        asked = get_plugins() if any(search(line) for search in quick) else []
        detectors = [one for one in asked if one.analyze_line(filename=filename, line=line, line_number=number)]
        if not detectors:
            quiet.add((kind, line))
            continue
        snippet = get_code_snippet(content, number)
        if scan._is_filtered_out(["line"], filename=filename, line=line, context=snippet):
            continue
        for detector in detectors:
            for secret in scan._scan_line(detector, filename, line, number, snippet):
                known = {"filename": secret.filename, "secret": secret.secret_value, "plugin": detector}
                if not scan._is_filtered_out(["context"], **known, line=line, context=snippet):
                    yield secret


if __name__ == "__main__":
    # A private function of the pinned version: fail rather than scan slowly in silence when a later one lacks it.
    assert hasattr(scan, "_process_line_based_plugins")
    # Every expression of the keywords holds them all.
    kinds = (keyword.QUOTES_REQUIRED_DENYLIST_REGEX_TO_GROUP, *keyword.REGEX_BY_FILETYPE.values())
    assert all(keyword.DENYLIST_REGEX in each.pattern for kind in kinds for each in kind)
    scan._process_line_based_plugins = process  # type: ignore[assignment]
    sys.exit(main())

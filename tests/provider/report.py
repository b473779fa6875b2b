"""What came of the contract's tests with each provider, as reports/providers.md."""

from __future__ import annotations

import re
import time
from collections import defaultdict
from pathlib import Path

import pytest

from phoenix import __version__

PAGE = Path(__file__).resolve().parents[2] / "reports" / "providers.md"
RESULTS = {"passed": "passed", "failed": "**failed**", "skipped": "not run"}


class Report:
    """A plugin of pytest: gathers results by rule and provider, and writes the page."""

    def __init__(self) -> None:
        self.rules: dict[str, dict[str, str]] = defaultdict(dict)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        # tests/provider/test_contract.py::test_RULE[PROVIDER-MORE]
        found = re.search(r"test_contract\.py::test_(\w+)\[(\w+)-?(.*)\]$", report.nodeid)
        if found and (report.when == "call" or report.outcome != "passed"):
            rule, provider, more = found.groups()
            name = rule.replace("_", " ") + (f" ({more})" if more else "")
            self.rules[name][provider] = f"{RESULTS[report.outcome]}, {report.duration:.1f} s"

    def pytest_sessionfinish(self) -> None:
        if self.rules:
            PAGE.parent.mkdir(exist_ok=True)
            PAGE.write_text(self.page(), encoding="utf-8")

    def page(self) -> str:
        providers = sorted({provider for results in self.rules.values() for provider in results})
        rows = [
            f"| {rule} | {' | '.join(results.get(provider, 'not run') for provider in providers)} |"
            for rule, results in self.rules.items()
        ]
        return "\n".join(
            [
                "# The provider contract",
                "",
                f"`make provider-test`, {time.strftime('%Y-%m-%d')}, {__version__}.",
                "",
                f"| rule | {' | '.join(providers)} |",
                "|---" * (len(providers) + 1) + "|",
                *rows,
                "",
            ]
        )

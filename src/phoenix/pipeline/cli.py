"""phoenixctl pipeline VERB: what a pipeline's SSH key may ask for (serve), and how its last run went (ended)."""

from __future__ import annotations

from phoenix.pipeline import forced, outcome


def main(arguments: list[str]) -> int:
    return outcome.main() if arguments == ["ended"] else forced.main(arguments)

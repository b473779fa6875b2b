"""phoenixctl pipeline VERB: what a pipeline's SSH key may ask for (serve), and how its runs go (begun, ended)."""

from __future__ import annotations

from phoenix.pipeline import forced, outcome


def main(arguments: list[str]) -> int:
    verbs = {"begun": outcome.begun, "ended": outcome.ended}
    if len(arguments) == 1 and arguments[0] in verbs:
        return verbs[arguments[0]]()
    return forced.main(arguments)

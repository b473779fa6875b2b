"""phoenixctl pipeline VERB: what a pipeline's SSH key may ask for (serve), and how its runs go.

begun, ended           before and after a run of phoenix-ci.service
result good|failed     the result of a run elsewhere
"""

from __future__ import annotations

from phoenix.pipeline import forced, outcome


def main(arguments: list[str]) -> int:
    verbs = {"begun": outcome.begun, "ended": outcome.ended}
    if len(arguments) == 1 and arguments[0] in verbs:
        return verbs[arguments[0]]()
    if arguments[:1] == ["result"] and arguments[1:] in (["good"], ["failed"]):
        return outcome.result(arguments[1] == "failed")
    return forced.main(arguments)

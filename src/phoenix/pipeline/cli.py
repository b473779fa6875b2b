"""phoenixctl pipeline VERB: what SSH keys of a pipeline and of developers may ask for (serve, git), and how runs go.

begun, ended           before and after a run of phoenix-ci.service
deliver                its second half: what was checked, as a user that runs none of it
fetch URL BRANCH       what is new at the application's Git host, into the queue
hook                   a request of that host's webhook, on standard input
report HOST …          each run's state to the Git host, as the commit's status
result good|failed     the result of a run elsewhere
"""

from __future__ import annotations

from phoenix.pipeline import deliver, forced, hook, outcome, push, source, status


def main(arguments: list[str]) -> int:
    verbs = {
        "begun": outcome.begun,
        "ended": outcome.ended,
        "deliver": deliver.main,
        "git": push.main,
        "hook": hook.main,
    }
    if len(arguments) == 1 and arguments[0] in verbs:
        return verbs[arguments[0]]()
    if arguments[:1] == ["fetch"]:
        return source.main(arguments[1:])
    if arguments[:1] == ["report"]:
        return status.main(arguments[1:])
    if arguments[:1] == ["result"] and arguments[1:] in (["good"], ["failed"]):
        return outcome.result(arguments[1] == "failed")
    return forced.main(arguments)

"""phoenixctl instances VERB: this host's instances of the application."""

from __future__ import annotations

from phoenix.instances import drain, instances, probe, scale


def main(arguments: list[str]) -> int:
    verb = arguments[0] if arguments else ""
    if verb in ("start", "only"):
        return scale.main(arguments)
    if verb == "drain":
        return drain.main(arguments[1:])
    if verb == "probe":
        return probe.main(arguments[1:])
    return instances.main(arguments)

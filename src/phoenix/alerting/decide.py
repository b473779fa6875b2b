"""What is reported, and when. Pure: neither clock nor network."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping

from phoenix.alerting.incidents import Incident, Settings, State, apply, unreported
from phoenix.alerting.messages import Message, compose


def decide(
    state: State, events: Iterable[Mapping[str, str]], now: float, settings: Settings
) -> tuple[State, list[Message]]:
    """Apply events and return which messages are due, at most one a role; times are seconds since 1970.

    What comes within `group_seconds` becomes one message. Each role has a bucket of `burst` messages that refills by
    one every `refill_seconds`: a storm of the whole fleet ends in few messages that hold all of it.
    """
    state = copy.deepcopy(state)
    for event in events:
        apply(state, event, now)
    passed, state.refilled = max(0.0, now - (state.refilled or now)), now
    for role in state.tokens:
        state.tokens[role] = min(float(settings.burst), state.tokens[role] + passed / settings.refill_seconds)
    due: dict[str, list[tuple[str, Incident, str]]] = {}
    for key, incident in state.incidents.items():
        if kind := unreported(incident, now, settings):
            due.setdefault(incident.role, []).append((key, incident, kind))
    messages = []
    for role, parts in due.items():
        # A reminder has waited long enough.
        waited = max(settings.group_seconds if kind == "reminder" else now - i.noticed for _, i, kind in parts)
        if state.tokens.setdefault(role, float(settings.burst)) < 1.0 or waited < settings.group_seconds:
            continue
        state.tokens[role] -= 1.0
        messages.append(compose(role, [(incident, kind) for _, incident, kind in parts], now, settings))
        for key, incident, _ in parts:
            if incident.cleared:
                del state.incidents[key]
            else:
                incident.reported, incident.reported_status = now, incident.status
    return state, messages

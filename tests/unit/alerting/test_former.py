"""Whether a channel's former secret is refused: whoever issued it has to have revoked it."""

from __future__ import annotations

import io
import json
import smtplib
import urllib.error
from email.message import Message as Headers
from typing import Any

import pytest

from phoenix.alerting import channels, former


def http(code: int) -> urllib.error.HTTPError:
    return urllib.error.HTTPError("https://hook.example", code, "no", Headers(), None)


ANSWERS: list[tuple[Exception | None, str, int]] = [
    (None, "hook: the former secret is STILL ACCEPTED", 1),
    (http(401), "hook: refused", 0),
    (http(403), "hook: refused", 0),
    (http(404), "hook: refused", 0),
    (smtplib.SMTPAuthenticationError(535, b"no"), "hook: refused", 0),
    (http(500), "hook: not known", 1),
    (OSError("timed out"), "hook: not known: timed out", 1),
    (ValueError(channels.MALFORMED), "hook: not known: its url is no", 1),
]


@pytest.mark.parametrize(("error", "said", "status"), ANSWERS)
def test_only_a_refusal_counts(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: Exception | None,
    said: str,
    status: int,
) -> None:
    def send(channel: Any, message: Any) -> str:
        assert channel["token"] == "before" and "revoke it" in message.text  # pragma: allowlist secret
        if error:
            raise error
        return "accepted"

    monkeypatch.setitem(channels.SENDERS, "webhook", send)
    order = {"channels": {"hook": {"type": "webhook", "token": "before"}}}  # pragma: allowlist secret
    monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps(order)))
    assert former.main() == status
    assert capsys.readouterr().out.startswith(said)

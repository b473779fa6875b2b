"""Whether channels with former secrets are refused by their receivers, which alone can have revoked them."""

from __future__ import annotations

import http.client
import json
import secrets
import smtplib
import sys
import time
import urllib.error
from collections.abc import Mapping
from typing import Any

from phoenix.alerting.channels import SENDERS
from phoenix.alerting.messages import Message

# What a receiver answers to a token or an address that it does not know (any more).
UNKNOWN = (401, 403, 404, 410)
TEXT = "Sent with a former secret of this channel, which should be refused: revoke it where it was issued."


def accepted(channel: Mapping[str, Any]) -> bool:
    """Whether the receiver takes a message by these settings; where it does, that message says what to do.

    Raises:
        OSError, ValueError, HTTPException: it neither took nor refused it.
    """
    message = Message(secrets.token_hex(8), "test", time.time(), "A former secret is still accepted", TEXT, [])
    try:
        SENDERS[channel["type"]](channel, message)
    except urllib.error.HTTPError as error:
        if error.code in UNKNOWN:
            return False
        raise
    except smtplib.SMTPAuthenticationError:
        return False
    return True


def main() -> int:
    """Read {"channels": {NAME: settings}} from standard input. Status 1 where one is accepted, or it is not known."""
    wrong = 0
    for name, channel in sorted(json.load(sys.stdin)["channels"].items()):
        try:
            taken = accepted(channel)
        except (OSError, ValueError, http.client.HTTPException) as error:
            print(f"{name}: not known: {error}")
            wrong = 1
            continue
        print(f"{name}: {'the former secret is STILL ACCEPTED: revoke it where it was issued' if taken else 'refused'}")
        wrong |= taken
    return wrong

"""What the role `ci` refuses before it changes anything."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar

from tests.unit.shared import TOP, inputs, read_yaml, trusted

PREFLIGHT = TOP / "roles" / "ci" / "tasks" / "preflight.yml"
# In parts, so that no scanner takes it for a key.
KEY = "-----BEGIN OPENSSH " + "PRIVATE KEY-----\nx\n"
SSH = {
    "ci_source": "git@git.example.org:acme/shop.git",
    "ci_source_key": KEY,
    "ci_source_known_hosts": "git ssh-ed25519 A",
}
HOOK = {
    "ci_source": "https://git.example.org/a.git",
    "ci_webhook_secret": "0123456789abcdef",
}  # pragma: allowlist secret


def refusals(own: dict[str, Any]) -> list[str]:
    """The messages of the checks that fail; the samples' own Git host counts only where a test sets it."""
    plain = {"ci_source": "", "ci_webhook_secret": "", "ci_status_host": "", "ci_mongodb_archive": "/x"}
    templar = Templar(loader=DataLoader(), variables=trusted({**inputs("ci"), **plain, **own}))
    (task,) = read_yaml(PREFLIGHT)
    return [
        templar.template(trusted(one["message"])) for one in task["loop"] if not templar.template(trusted(one["that"]))
    ]


@pytest.mark.usefixtures("ansible_plugins")
@pytest.mark.parametrize(
    "own",
    [
        {},
        SSH,
        {**SSH, "ci_source": "ssh://git@git.example.org:2222/acme/shop.git"},
        HOOK,
        {**HOOK, "ci_webhook_sources": ["any"], "ci_source_interval": "30s"},
    ],
)
def test_good_inputs_are_taken(own: dict[str, Any]) -> None:
    assert refusals(own) == []


@pytest.mark.usefixtures("ansible_plugins")
@pytest.mark.parametrize(
    ("own", "named"),
    [
        ({"ci_source": "http://git.example.org/a.git"}, "ci_source = "),
        ({"ci_source": "/srv/a.git"}, "ci_source = "),
        ({"ci_source": "--upload-pack=x"}, "ci_source = "),
        ({"ci_source": "https://-x"}, "ci_source = "),
        ({"ci_source": "ext::sh -c x"}, "ci_source = "),
        ({"ci_source": "https://git.example.org/a.git b"}, "ci_source = "),
        ({"ci_source": "https://me:canary@git.example.org/a.git"}, "ci_source = (hidden)"),  # pragma: allowlist secret
        ({**SSH, "ci_source_key": "canary"}, "ci_source_key = (hidden)"),
        ({**SSH, "ci_source_known_hosts": " "}, "ci_source_known_hosts is empty"),
        ({**HOOK, "ci_source_interval": "often"}, "ci_source_interval = "),
        ({**HOOK, "ci_webhook_secret": "canary"}, "ci_webhook_secret = (hidden)"),  # pragma: allowlist secret
        ({**HOOK, "ci_source": ""}, "ci_source is empty"),
        ({"ci_denied_addresses": ["192.0.2.31", "192.0.2.41"]}, "ci_denied_addresses names ci_address"),
        ({"ci_webhook_sources": ["any"]}, "ci_webhook_secret is empty"),
    ],
)
def test_others_are_named_and_no_secret_is_shown(own: dict[str, Any], named: str) -> None:
    (message,) = refusals(own)
    assert message.startswith(named)
    assert "canary" not in message

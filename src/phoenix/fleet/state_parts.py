"""What a host's backup holds besides the database and what a play makes again."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

STATE = "/var/lib/phoenix/state"
ACME = "/var/lib/phoenix/acme"
AUTHORITY = "/var/lib/phoenix/database-ca"
CI, DELIVER = "/var/lib/phoenix-ci", "/var/lib/phoenix-deliver"


def parts(groups: Collection[str], first_control: bool, acme: bool, authority: bool) -> list[dict[str, Any]]:
    """The parts of a host in these groups, each with its name, paths and, within them, what is left out.

    first_control: whether it is the first control host, which issues certificates: by ACME, and as the database's
    authority.
    """
    return list(_parts(groups, first_control and acme, first_control and authority))


def _parts(groups: Collection[str], acme: bool, authority: bool) -> Iterator[dict[str, Any]]:
    if "control" in groups:
        yield {
            "name": "state",
            "paths": [STATE, "/var/lib/phoenix/autoscaler/decisions.jsonl", "/var/lib/phoenix-runner/.ssh"],
            "exclude": [f"{STATE}/*lock*", f"{STATE}/maintenance"],
        }
        yield {"name": "releases", "paths": ["/var/lib/phoenix/releases"]}
        yield {
            "name": "pipeline",
            "paths": [CI, DELIVER, "/var/lib/phoenix-deploy"],
            "exclude": [
                *(f"{CI}/{name}" for name in ("workspace", ".npm", ".cache", "deliver", "agent")),
                f"{DELIVER}/agent",
            ],
        }
    if acme:
        yield {"name": "acme", "paths": [ACME]}
    if authority:
        yield {"name": "authority", "paths": [AUTHORITY]}
    if "lb" in groups:
        yield {"name": "certificates", "paths": ["/etc/nginx/tls"]}
    if "jenkins" in groups:
        # Its home as it packs it each night.
        yield {"name": "jenkins", "paths": ["/etc/jenkins/secrets", "/var/backups/jenkins/jenkins-home-*.tar.gz"]}


def triggers(groups: Collection[str], first_control: bool, acme: bool, authority: bool) -> list[str]:
    """The folders whose change has the parts sent at once."""
    folders = {STATE: "control" in groups, ACME: first_control and acme, AUTHORITY: first_control and authority}
    return [folder for folder, here in folders.items() if here]

"""The command line.

usage: phoenix-notify serve | heartbeat

serve      run the service
heartbeat  tell the outside watcher that Netdata and this service are well; status 1, and no ping, when they are not
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from phoenix_notify.heartbeat import heartbeat
from phoenix_notify.service import Service


def main() -> int:
    """The configuration, which holds secrets, comes as a credential of systemd's."""
    config = json.loads(Path(os.environ["CREDENTIALS_DIRECTORY"], "config").read_text(encoding="utf-8"))
    if sys.argv[1:] == ["heartbeat"]:
        return heartbeat(config)
    Service(config).run()
    return 0

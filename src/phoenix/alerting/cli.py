"""The command line.

phoenixctl alerts serve       runs the service
phoenixctl alerts deadman     pings the outside watcher while Netdata and the service are well; else status 1
phoenixctl alerts event ...   Netdata's hook: spools one change of an alarm
phoenixctl alerts test        raises the test alarm and reports what each channel answered
phoenixctl alerts former      whether former channels, as JSON over standard input, are refused
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

USAGE = 64


def configuration() -> Any:
    """The configuration, which holds secrets, comes as a credential of systemd's."""
    return json.loads(Path(os.environ["CREDENTIALS_DIRECTORY"], "config").read_text(encoding="utf-8"))


def main(arguments: list[str]) -> int:
    # Imported where they are needed: Netdata runs the hook for each event, and it is to be quick.
    verb = arguments[0] if arguments else ""
    if verb == "event":
        from phoenix.alerting import event  # noqa: PLC0415

        return event.main(arguments[1:])
    if verb == "test":
        from phoenix.alerting import trial  # noqa: PLC0415

        return trial.main()
    if verb == "former":
        from phoenix.alerting import former  # noqa: PLC0415

        return former.main()
    if verb == "deadman":
        from phoenix.alerting.deadman import ping  # noqa: PLC0415

        return ping(configuration())
    if verb == "serve":
        from phoenix.alerting.service import Service  # noqa: PLC0415

        Service(configuration()).run()
    print(__doc__, file=sys.stderr)
    return USAGE

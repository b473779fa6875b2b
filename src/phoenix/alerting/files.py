"""Where the service keeps what a restart must not lose, and how it writes it and logs to the journal."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

SPOOL = Path("/var/spool/phoenix-notify")
FOLDER = Path("/var/lib/phoenix-notify")
METRICS = FOLDER / "metrics" / "notify.prom"


def log(**fields: Any) -> None:
    """Write one line of JSON to the journal."""
    print(json.dumps(fields), flush=True)

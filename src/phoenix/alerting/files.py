"""Where the service keeps what a restart must not lose, and how it writes it and speaks to the journal."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

SPOOL = Path("/var/spool/phoenix-notify")
FOLDER = Path("/var/lib/phoenix-notify")
METRICS = FOLDER / "metrics" / "notify.prom"


def replace(path: Path, text: str) -> None:
    """Write beside, then rename: a reader never sees half a file."""
    trial = path.with_suffix(".new")
    trial.write_text(text, encoding="utf-8")
    trial.replace(path)


def say(**fields: Any) -> None:
    """One line of JSON for the journal."""
    print(json.dumps(fields), flush=True)

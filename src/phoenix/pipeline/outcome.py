"""How the last run of the pipeline went, for the alarms: ExecStopPost of phoenix-ci.service."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path

from phoenix.common import files, prometheus

METRICS = Path("/var/lib/phoenix/metrics/pipeline.prom")
TEXTS = {
    "phoenix_pipeline_last_result": "0 good, 1 failed",
    "phoenix_pipeline_last_timestamp_seconds": "When the last run ended.",
}
IDLE = "75"  # exit status of phoenix-pipeline: nothing waited


def failed(environment: Mapping[str, str]) -> bool | None:
    """What systemd says of the process that ended (systemd.exec(5), $SERVICE_RESULT); None: it had nothing to do."""
    if environment.get("EXIT_STATUS") == IDLE:
        return None
    return (environment.get("SERVICE_RESULT"), environment.get("EXIT_STATUS")) != ("success", "0")


def main() -> int:
    result = failed(os.environ)
    if result is not None:
        METRICS.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        files.replace(METRICS, prometheus.exposition(dict(zip(TEXTS, (float(result), round(time.time())))), TEXTS))
    return 0

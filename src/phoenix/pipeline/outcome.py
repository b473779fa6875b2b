"""How the pipeline's runs go, for the alarms: before and after each start of phoenix-ci.service."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path

from phoenix.common import files, prometheus

METRICS = Path("/var/lib/phoenix/metrics/pipeline.prom")
GAUGES = {
    "phoenix_pipeline_running": "1 from the start of a run to its end; one that a power cut ended never ends.",
    "phoenix_pipeline_last_result": "0 good, 1 failed",
    "phoenix_pipeline_last_timestamp_seconds": "When the last run ended.",
}
IDLE = "75"  # exit status of phoenix-pipeline: nothing waited


def failed(environment: Mapping[str, str]) -> bool | None:
    """What systemd says of the process that ended (systemd.exec(5), $SERVICE_RESULT); None: it had nothing to do."""
    if environment.get("EXIT_STATUS") == IDLE:
        return None
    return (environment.get("SERVICE_RESULT"), environment.get("EXIT_STATUS")) != ("success", "0")


def write(changes: Mapping[str, float]) -> None:
    """Write the gauges, those that do not change as they were."""
    METRICS.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    before = prometheus.read(METRICS.read_text(encoding="utf-8")) if METRICS.exists() else {}
    values = {f"phoenix_pipeline_{name}": value for name, value in changes.items()}
    files.replace(METRICS, prometheus.exposition({**before, **values}, GAUGES))


def begun() -> int:
    write({"running": 1.0})
    return 0


def ended() -> int:
    """Record how the run ended, of which systemd's variables are in the environment."""
    how = failed(os.environ)
    if how is not None:
        return result(how)
    write({"running": 0.0})
    return 0


def result(failed: bool) -> int:
    write({"running": 0.0, "last_result": float(failed), "last_timestamp_seconds": round(time.time())})
    return 0

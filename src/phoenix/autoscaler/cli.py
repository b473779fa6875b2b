"""phoenixctl autoscaler: make the capacity follow the rate of requests.

  phoenixctl autoscaler serve [--dry-run]   runs the daemon; its libraries are in a Python environment of its own
  phoenixctl autoscaler validate            only checks the configuration

Signals: SIGHUP reloads the configuration (an invalid one is rejected, and the old one stays); SIGTERM stops.
"""

import argparse
import asyncio
import json
import logging
import signal
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

from phoenix.autoscaler import config as configuration
from phoenix.autoscaler import state
from phoenix.autoscaler.action import Actions, DryRun, Playbooks, private_folder
from phoenix.autoscaler.daemon import Daemon, listening
from phoenix.autoscaler.metrics import Metrics
from phoenix.common import systemd

log = logging.getLogger("phoenix.autoscaler")
PLAIN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """One JSON object a line: the journal adds the time."""

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, Any] = {"level": record.levelname.lower(), "message": record.getMessage()}
        fields |= {name: value for name, value in vars(record).items() if name not in PLAIN}
        if record.exc_info:
            fields["error"] = self.formatException(record.exc_info)
        return json.dumps(fields, default=str)


async def serve(config: configuration.Config, path: Path, dry_run: bool) -> None:
    target = DryRun() if dry_run else Playbooks(config.action, private_folder(config.paths.own / "runs"))
    lock = state.NullLock() if dry_run else state.FleetLock(config.paths.state)
    metrics = Metrics()
    daemon = Daemon(config, Actions(target, config.action, time.monotonic), lock, metrics, dry_run=dry_run)

    def stop() -> None:
        daemon.stopping = True

    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop)
    loop.add_signal_handler(signal.SIGINT, stop)
    loop.add_signal_handler(signal.SIGHUP, daemon.reload, partial(configuration.load, path), systemd.notify)
    metrics.serve(str(config.metrics.address), config.metrics.port)
    with listening(config) as sock:
        log.info("listening", extra={"address": str(sock.getsockname()), "dry_run": dry_run})
        await daemon.run(sock, systemd.notify)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("verb", choices=("serve", "validate"))
    parser.add_argument("--config", type=Path, default=Path("/etc/phoenix/autoscaler.yml"))
    parser.add_argument("--dry-run", action="store_true", help="log the decisions, change nothing")
    options = parser.parse_args(arguments)
    try:
        config = configuration.load(options.config)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    if options.verb == "validate":
        return 0
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    asyncio.run(serve(config, options.config, options.dry_run))
    return 0

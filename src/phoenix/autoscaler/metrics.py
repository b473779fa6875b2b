"""What the autoscaler tells of itself, for Prometheus and for Netdata's collector."""

import logging
from pathlib import Path

from prometheus_client import CollectorRegistry, Gauge, generate_latest
from prometheus_client.exposition import start_http_server

from phoenix.autoscaler.state import write

log = logging.getLogger(__name__)

GAUGES = {
    "requests_per_second": "proxied requests a second, mean of the stable window",
    "panic_requests_per_second": "proxied requests a second, mean of the panic window",
    "capacity": "instances recorded",
    "desired": "instances that the load asks for, within the bounds",
    "minimum": "least instances",
    "maximum": "most instances",
    "at_maximum": "1 when the load asks for more than the maximum",
    "data_age_seconds": "time since the load balancer that is silent longest was heard",
    "frozen": "1 while somebody else holds the fleet's lock",
    "left_out_hosts": "hosts left out by the last action",
    "actions_total": "actions started",
    "failed_actions_total": "actions failed",
    "requests_total": "requests counted",
    "heartbeats_total": "heartbeats heard",
    "duplicates_total": "datagrams heard twice",
    "foreign_total": "datagrams from others than the load balancers",
    "malformed_total": "datagrams that were none of ours",
    "received_dropped_total": "datagrams that the kernel dropped because the queue was full",
}
NEVER = 86400.0  # seconds, where a balancer was never heard: charts have no infinity


class Metrics:
    """The gauges, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._gauges = {
            name: Gauge(f"phoenix_autoscaler_{name}", text, registry=self.registry) for name, text in GAUGES.items()
        }

    def set(self, **values: float) -> None:
        for name, value in values.items():
            self._gauges[name].set(min(value, NEVER) if name == "data_age_seconds" else value)

    def write(self, path: Path) -> None:
        """For the collector of Netdata, which reads files."""
        write(path, generate_latest(self.registry).decode())

    def serve(self, address: str, port: int) -> None:
        """For Prometheus. An occupied port costs the endpoint, never the daemon."""
        try:
            start_http_server(port, addr=address, registry=self.registry)
        except OSError as error:
            log.error("no metrics endpoint", extra={"address": address, "port": port, "error": str(error)})

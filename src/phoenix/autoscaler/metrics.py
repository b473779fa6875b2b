"""The autoscaler's own metrics, for Prometheus and for Netdata's collector."""

import logging
from pathlib import Path
from threading import Thread
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, Gauge, generate_latest
from prometheus_client.exposition import start_http_server

from phoenix.autoscaler.state import write

log = logging.getLogger(__name__)

PREFIX = "phoenix_autoscaler_"
GAUGES = {
    "requests_per_second": "proxied requests per second, mean of the stable window",
    "panic_requests_per_second": "proxied requests per second, mean of the panic window",
    "open_requests": "requests that the load balancers have open: WebSocket connections, streams, polls, slow answers",
    "capacity": "recorded number of instances",
    "desired": "instances that the load requires, within the bounds",
    "minimum": "minimum number of instances",
    "maximum": "maximum number of instances that the hosts hold",
    "at_maximum": "1 if the load requires more than the maximum",
    "data_age_seconds": "seconds since the last datagram of the load balancer that has been silent for longest",
    "frozen": "1 while the lock, a hold or maintenance keeps it from acting",
    "withheld": "instances that the load requires beyond the recorded ones while it is kept from acting",
    "left_out_hosts": "hosts that the last action left out",
    "actions_total": "actions started",
    "failed_actions_total": "actions failed",
    "requests_total": "requests counted",
    "heartbeats_total": "heartbeats received",
    "duplicates_total": "duplicate datagrams",
    "foreign_total": "datagrams from addresses other than the load balancers'",
    "malformed_total": "malformed datagrams",
    "received_dropped_total": "datagrams that the kernel dropped because the queue was full",
}
NEVER = 86400.0  # seconds, for a balancer that was never heard: charts have no infinity


class Metrics:
    """The gauges, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._gauges = {name: Gauge(f"{PREFIX}{name}", text, registry=self.registry) for name, text in GAUGES.items()}
        self._endpoint: tuple[WSGIServer, Thread] | None = None

    def set(self, **values: float) -> None:
        for name, value in values.items():
            self._gauges[name].set(min(value, NEVER) if name == "data_age_seconds" else value)

    def write(self, path: Path) -> None:
        """Write the file that Netdata's collector reads."""
        write(path, generate_latest(self.registry).decode())

    def close(self) -> None:
        """Serve Prometheus no longer."""
        if self._endpoint is not None:
            server, thread = self._endpoint
            self._endpoint = None
            server.shutdown()
            server.server_close()
            thread.join()

    def serve(self, address: str, port: int) -> None:
        """Serve Prometheus there alone; if the port is taken, the daemon runs without the endpoint."""
        self.close()
        try:
            self._endpoint = start_http_server(port, addr=address, registry=self.registry)
        except OSError as error:
            log.error(
                "the metrics endpoint can't listen", extra={"address": address, "port": port, "error": str(error)}
            )

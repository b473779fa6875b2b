"""What Netdata receives: the pure parts of the plugin, on captured output."""

import http.server
import socket
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from phoenix.common import prometheus
from phoenix.monitoring import gauges, plugin, services
from phoenix.monitoring.charts import Chart, Collector, Output
from phoenix.monitoring.fleet import FleetWatch
from phoenix.monitoring.gauges import Metrics, metric_chart
from phoenix.monitoring.mongodb import member_values, oplog_hours
from phoenix.monitoring.nginx import AccessLog, Site, count_statuses, error_share
from phoenix.monitoring.plugin import Standstill, collectors, run
from phoenix.monitoring.services import FailedUnits, ServiceCpu, unit_states


def test_gauges_are_read_and_other_lines_left_out() -> None:
    text = (
        '# HELP x y\n# TYPE x gauge\nphoenix_a_b 1.5\nphoenix_c{host="app1"} 2\nbroken\nphoenix_d NaN\nphoenix_e +Inf\n'
    )
    assert prometheus.read(text) == {"phoenix_a_b": 1.5, 'phoenix_c{host="app1"}': 2.0}


def test_times_become_ages_and_ages_grow_with_their_file() -> None:
    late = metric_chart("phoenix_backup_newest_good_timestamp_seconds", 1000.0, 5000.0, 8600.0)
    assert (late.context, late.values) == ("phoenix.backup_newest_good_age_seconds", {"value": 7600.0})
    stale = metric_chart("phoenix_autoscaler_data_age_seconds", 2.0, 5000.0, 5100.0)
    assert stale.values == {"value": 102.0}
    plain = metric_chart("phoenix_backup_store_free_bytes", 7.0, 0.0, 9.0)
    assert (plain.units, plain.values) == ("bytes", {"value": 7.0})
    labelled = metric_chart('phoenix_x_y{host="app1"}', 7.0, 0.0, 9.0)
    assert (labelled.id, labelled.context) == ("phoenix_metrics.x_y_host_app1", "phoenix.x_y")


def test_answers_are_counted_by_status() -> None:
    lines = (
        b'{"time":"x","status":200,"bytes":1}\n'
        b'{"status":502,"upstream_status":"200"}\n'
        b'{"status":404,"uri":"/\\"status\\":500,"}\n'
        b'{"status":503,"maintenance":1,"bytes":1}\n'
    )
    assert count_statuses(lines) == {"1xx": 0, "2xx": 1, "3xx": 0, "4xx": 1, "5xx": 1}


def answers(good: int = 0, errors: int = 0, missing: int = 0) -> dict[str, int]:
    return {"1xx": 0, "2xx": good, "3xx": 0, "4xx": missing, "5xx": errors}


def test_a_share_needs_enough_answers() -> None:
    window = [answers(18, 1), answers(0, 1)]
    assert error_share(window, 20, 12) == pytest.approx(10.0)
    assert error_share(window, 21, 12) == 0.0
    assert error_share([], 0, 12) == 0.0


@pytest.mark.parametrize(
    ("recent", "share"),
    [
        ([answers(errors=1)] * 5, 100.0),
        ([answers(errors=1), *[answers()] * 90, answers(errors=4)], 100.0),
        ([answers(errors=4)], 0.0),
        ([answers(errors=4), answers(good=1), answers(errors=4)], 0.0),
        # It works again.
        ([answers(errors=9), answers(good=1)], 0.0),
        # Scanners, which nginx answers by itself.
        ([answers(errors=3, missing=2), answers(missing=3), answers(errors=2)], 100.0),
        ([answers(missing=9)], 0.0),
    ],
)
def test_with_few_answers_only_a_total_failure_counts(recent: list[dict[str, int]], share: float) -> None:
    assert error_share(recent, 20, 12) == share


def test_the_share_is_of_the_last_minute() -> None:
    recent = [answers(errors=50), *[answers(good=10)] * 12]
    assert error_share(recent, 20, 12) == 0.0


def test_an_outage_on_a_quiet_site_shows_in_the_log(tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    log.touch()
    collector = AccessLog(str(log), 20)
    shares = []
    for _ in range(20):
        (_, errors) = collector.collect(0.0)
        shares.append(errors.values["share"])
        with log.open("a") as stream:
            stream.write('{"status":502,"bytes":1}\n')
    assert shares == [0.0] * 5 + [100.0] * 15, "none to four answers, then five and more"


class Answer(http.server.BaseHTTPRequestHandler):
    status = 200
    names: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.names.append(self.headers["Host"])
        self.send_response(self.status)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def site() -> Iterator[http.server.HTTPServer]:
    with http.server.HTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(("status", "up"), [(200, 1), (301, 1), (401, 1), (404, 1), (421, 0), (500, 0), (502, 0)])
def test_the_site_is_up_when_it_answers_by_its_name(
    site: http.server.HTTPServer, status: int, up: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Answer, "status", status)
    Answer.names.clear()
    (chart,) = Site("lb1", "127.0.0.1", f"http://www.example.org:{site.server_port}/").collect(0.0)
    assert (chart.id, chart.values) == ("phoenix_site.lb1_http", {"up": up})
    assert Answer.names == [f"www.example.org:{site.server_port}"]


def test_a_closed_port_and_one_that_speaks_something_else_are_down(site: http.server.HTTPServer) -> None:
    (chart,) = Site("lb1", "127.0.0.1", f"https://www.example.org:{site.server_port}/").collect(0.0)
    assert chart.values == {"up": 0}, "no TLS there"
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    (chart,) = Site("lb1", "127.0.0.1", f"http://www.example.org:{port}/").collect(0.0)
    assert chart.values == {"up": 0}


def test_a_failed_unit_shows_until_it_is_no_longer_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = [
        "phoenix-backup-offsite.service loaded failed failed Copy elsewhere\nreport.service loaded failed failed x\n",
        "",
    ]
    monkeypatch.setattr("subprocess.run", lambda *_, **__: SimpleNamespace(stdout=shown.pop(0)))
    collector = FailedUnits(["report*"])
    values = [[(chart.id, chart.values["failed"]) for chart in collector.collect(0.0)] for _ in range(2)]
    assert values == [[("phoenix_failed.phoenix-backup-offsite", 1)], [("phoenix_failed.phoenix-backup-offsite", 0)]]


def test_a_member_is_measured_against_the_primary() -> None:
    now = datetime.now(UTC)
    primary = {"stateStr": "PRIMARY", "optimeDate": now}
    me: dict[str, Any] = {"stateStr": "SECONDARY", "self": True, "optimeDate": now - timedelta(seconds=12)}
    assert member_values({"members": [primary, me]}) == (True, 12.0)
    assert member_values({"members": [me]}) == (False, 0.0)
    assert member_values({}) == (False, 0.0)


def test_a_young_oplog_is_not_a_short_one() -> None:
    assert oplog_hours(600, 1 << 20, 1 << 30) == pytest.approx(600 * 1024 / 3600)
    assert oplog_hours(7200, 1 << 30, 1 << 30) == pytest.approx(2)


def test_only_loaded_units_have_a_state() -> None:
    shown = (
        "Id=phoenix@3000.service\nLoadState=loaded\nActiveState=active\nNRestarts=3\n\n"
        "Id=mongod.service\nLoadState=not-found\nActiveState=inactive\nNRestarts=0\n"
    )
    assert unit_states(shown) == {"phoenix@3000.service": ("active", 3)}


def test_cpu_is_in_percent_of_one_core_and_a_restart_counts_from_zero(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "system-phoenix.slice" / "phoenix@3000.service"
    folder.mkdir(parents=True)
    (tmp_path / "ssh.service").mkdir()
    collector = ServiceCpu(["phoenix@*.service"])
    collector.root = tmp_path
    clock = iter([10.0, 12.0, 14.0])
    monkeypatch.setattr(services, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    seen = []
    for used in (5_000_000, 7_000_000, 500_000):
        (folder / "cpu.stat").write_text(f"usage_usec {used}\nuser_usec 1\n")
        seen += [chart.values["cpu"] for chart in collector.collect(0.0)]
    assert seen == [pytest.approx(100.0), pytest.approx(25.0)]


def test_a_rotated_log_is_read_from_its_beginning(tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    log.write_bytes(b"old\n")
    reader = AccessLog(str(log), 1)
    assert reader.read() == b"", "what was there before is not news"
    with log.open("ab") as stream:
        stream.write(b"one\nhal")
    assert reader.read() == b"one\n"
    log.rename(tmp_path / "access.log.1")
    log.write_bytes(b"new\n")
    assert reader.read() == b"new\n"


def test_charts_are_defined_once_and_taken_down() -> None:
    written: list[str] = []
    output = Output(written.append)
    chart = Chart("t.a", "A", "units", "phoenix.a", {"x": 1.5})
    output.emit(chart, 5, 0.0)
    output.emit(chart, 5, 5.0)
    assert "".join(written).count("CHART t.a") == 1
    assert "SET x = 1500\n" in written[-1]
    output.forget(chart, 5)
    assert "obsolete" in written[-1]


def test_only_configured_sections_are_collected() -> None:
    kinds = [type(c).__name__ for c in collectors({"services": {"patterns": [], "ordinary": [], "may_fail": []}})]
    assert kinds == ["Beat", "Disks", "ServiceCpu", "ServiceRestarts", "FailedUnits"]


def test_a_collector_that_fails_or_hangs_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    class Fails(Collector):
        def collect(self, now: float) -> Iterator[Chart]:
            raise OSError("refused")

    class Works(Collector):
        def collect(self, now: float) -> Iterator[Chart]:
            yield Chart("t.a", "A", "units", "phoenix.a", {"x": 1})

    steps = iter(range(3))

    def sleep(_seconds: float) -> None:
        if next(steps, None) is None:
            raise SystemExit  # the test's end

    clock = SimpleNamespace(time=lambda: 0.0, sleep=sleep, monotonic=lambda: 500.0)
    monkeypatch.setattr(plugin, "time", clock)
    one, two = Fails(), Works()
    succeeded: dict[Collector, float] = {one: 100.0, two: 100.0}
    for collector in (one, two):
        steps = iter(range(3))
        with pytest.raises(SystemExit):
            run(collector, Output(lambda _text: None), succeeded)
    charts = {chart.id: chart.values["age"] for chart in Standstill(succeeded).collect(501.0)}
    assert charts == {"phoenix_collector.Fails": 401.0, "phoenix_collector.Works": 1.0}


def test_of_one_kind_the_collector_that_stands_still_the_longest_counts() -> None:
    succeeded: dict[Collector, float] = {Collector(): 90.0, Collector(): 40.0, Collector(): 80.0}
    (chart,) = Standstill(succeeded).collect(100.0)
    assert chart.values == {"age": 60.0}


def test_a_file_that_cannot_be_read_hides_no_other(tmp_path: Path) -> None:
    (tmp_path / "autoscaler.prom").symlink_to(tmp_path / "nowhere")
    (tmp_path / "backup.prom").write_text("phoenix_backup_last_result 0\n")
    collector = Metrics([str(tmp_path)], ["autoscaler", "backup"], tmp_path / "since")
    charts = {chart.id: chart.values for chart in collector.collect(0.0)}
    assert charts["phoenix_metrics.backup_last_result"] == {"value": 0.0}
    assert charts["phoenix_missing.backup"] == {"missing": 0.0}
    assert charts["phoenix_missing.autoscaler"]["missing"] >= 0.0


def test_metrics_are_missing_since_they_last_existed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    since, file = tmp_path / "since", tmp_path / "backup.prom"
    since.touch()
    clock = since.stat().st_mtime
    collector = Metrics([str(tmp_path)], ["backup"], since)

    def missing(after: float) -> float:
        monkeypatch.setattr(gauges, "time", SimpleNamespace(time=lambda: clock + after))
        return float(next(c for c in collector.collect(0.0) if c.id == "phoenix_missing.backup").values["missing"])

    assert missing(100) == pytest.approx(100), "never there: since the collector first ran"
    file.touch()
    assert missing(5000) == 0
    file.unlink()
    assert missing(5010) == 10


def test_a_replaced_machine_is_not_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """The parent still lists the machine that had the name before."""
    watch = FleetWatch("http://parent", ["app1"], [], "/nowhere")
    watch.heard["app1"] = 0.0
    agents = [
        {"hostname": "app1", "guid": "former", "reachable": False},
        {"hostname": "app1", "guid": "present", "reachable": True},
    ]
    beats = {"former": [], "present": [[4e9, 1.0]]}

    def ask(path: str) -> dict[str, Any]:
        return {"mirrored_hosts_status": agents} if path == "api/v1/info" else {"data": beats[path.split("/")[1]]}

    monkeypatch.setattr(watch, "ask", ask)
    (chart,) = watch.collect(0.0)
    assert chart.values == {"silent": 0.0}
    agents[1]["reachable"], beats["present"] = False, []
    (chart,) = watch.collect(0.0)
    assert watch.heard["app1"] == 4e9, "not heard, and when it was last heard is kept"

"""What Netdata receives: the pure parts of the plugin, on captured output."""

import functools
import http.server
import os
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar
from unittest.mock import Mock

import pytest

from lab.ports import free_port
from phoenix.common import prometheus
from phoenix.monitoring import gauges, nginx, plugin, services
from phoenix.monitoring.charts import Chart, Collector, Output
from phoenix.monitoring.fleet import FleetWatch
from phoenix.monitoring.gauges import Metrics, metric_chart
from phoenix.monitoring.machine import Disks, Mount, mounts
from phoenix.monitoring.mongodb import member_values, oplog_hours
from phoenix.monitoring.nginx import AccessLog, Certificate, Site, count_statuses, error_share, left_days, secure
from phoenix.monitoring.plugin import Standstill, collectors, run
from phoenix.monitoring.services import FailedUnits, ServiceCpu, StoppedUnits, is_stopped, unit_states
from phoenix.provider import demand, lifecycle, published
from phoenix.state import desired


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
        self.wfile.write(b"<title>Phoenix</title>")

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
        "Id=phoenix@3000.service\nLoadState=loaded\nType=simple\nActiveState=active\nNRestarts=3\n\n"
        "Id=phoenix-backup@nightly.service\nLoadState=loaded\nType=oneshot\nActiveState=activating\nNRestarts=3\n\n"
        "Id=phoenix-backup.timer\nLoadState=loaded\nActiveState=active\n\n"
        "Id=mongod.service\nLoadState=not-found\nType=simple\nActiveState=inactive\nNRestarts=0\n"
    )
    assert unit_states(shown) == {"phoenix@3000.service": ("active", 3)}


@pytest.mark.parametrize(("parallel", "first", "second"), [([], 100.0, 25.0), (["phoenix@*"], 12.5, 3.125)])
def test_cpu_is_in_percent_of_what_can_be_used_and_a_restart_counts_from_zero(
    parallel: list[str], first: float, second: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    folder = tmp_path / "system-phoenix.slice" / "phoenix@3000.service"
    folder.mkdir(parents=True)
    (tmp_path / "ssh.service").mkdir()
    collector = ServiceCpu(["phoenix@*.service"], parallel)
    collector.root = tmp_path
    clock = iter([10.0, 12.0, 14.0])
    monkeypatch.setattr(services, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    seen = []
    for used in (5_000_000, 7_000_000, 500_000):
        (folder / "cpu.stat").write_text(f"usage_usec {used}\nuser_usec 1\n")
        seen += [chart.values["cpu"] for chart in collector.collect(0.0)]
    assert seen == [pytest.approx(first), pytest.approx(second)]


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


SERVICES: dict[str, list[str]] = {"patterns": [], "parallel": [], "units": [], "ordinary": [], "may_fail": []}


def test_only_configured_sections_are_collected() -> None:
    kinds = [type(c).__name__ for c in collectors({"services": SERVICES})]
    assert kinds == ["Beat", "Disks", "ServiceCpu", "ServiceRestarts", "FailedUnits", "StoppedUnits"]


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
    assert charts["phoenix_missing.backup"]["missing"] == pytest.approx(0.0, abs=60)
    assert charts["phoenix_missing.autoscaler"]["missing"] >= 0.0


def test_metrics_are_missing_since_they_were_last_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    since, file = tmp_path / "since", tmp_path / "backup.prom"
    since.touch()
    clock = since.stat().st_mtime
    collector = Metrics([str(tmp_path)], ["backup"], since)

    def missing(after: float) -> float:
        monkeypatch.setattr(gauges, "time", SimpleNamespace(time=lambda: clock + after))
        return float(next(c for c in collector.collect(0.0) if c.id == "phoenix_missing.backup").values["missing"])

    assert missing(100) == pytest.approx(100), "never there: since the collector first ran"
    file.touch()
    os.utime(file, (clock + 5000, clock + 5000))
    assert missing(5000) == 0
    assert missing(5007) == 7, "there, and nobody renews it"
    file.unlink()
    assert missing(5010) == 10


MOUNTS = """\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw,errors=remount-ro
23 22 8:1 /srv /very/long/path ro - ext4 /dev/vda1 rw
24 22 0:20 / /run rw,nosuid - tmpfs tmpfs rw,size=10%
25 24 0:21 / /run/user/0 rw - tmpfs tmpfs rw
26 22 0:5 / /dev rw - devtmpfs udev rw
27 22 8:17 / /var/lib/mongodb rw master:2 - xfs /dev/vdb1 ro,attr2
28 22 7:0 / /snap/x ro - squashfs /dev/loop0 ro
"""


def test_each_file_system_counts_once_and_by_its_own_options() -> None:
    assert mounts(MOUNTS) == [
        Mount("/", ["rw", "errors=remount-ro"]),
        Mount("/run", ["rw", "size=10%"]),
        Mount("/var/lib/mongodb", ["ro", "attr2"]),
    ]


def test_only_a_file_system_that_was_writable_has_become_read_only() -> None:
    disks = Disks()
    assert not disks.became_read_only(Mount("/mnt", ["ro"])), "mounted so on purpose"
    assert disks.became_read_only(Mount("/", ["ro", "errors=remount-ro"])), "since the boot"
    assert not disks.became_read_only(Mount("/mnt", ["rw"]))
    assert disks.became_read_only(Mount("/mnt", ["ro"]))


def test_space_and_inodes_are_measured_by_mount(monkeypatch: pytest.MonkeyPatch) -> None:
    full = SimpleNamespace(
        f_frsize=1000, f_blocks=10**9, f_bfree=3 * 10**8, f_bavail=10**8, f_files=100, f_ffree=9, f_favail=9
    )
    monkeypatch.setattr("os.statvfs", lambda _point: full)
    monkeypatch.setattr("os.path.isdir", lambda _point: True)
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: MOUNTS)
    disks = Disks()
    disks.writable.add("/var/lib/mongodb")
    charts = {chart.id: chart.values for chart in disks.collect(0.0)}
    assert charts["phoenix_disk.var_lib_mongodb"] == {"available": 100.0, "used": 700.0}
    assert charts["phoenix_inodes.root"] == {"available": 9, "used": 91}
    assert charts["phoenix_read_only.root"] == {"read_only": 0}
    assert charts["phoenix_read_only.var_lib_mongodb"] == {"read_only": 1}
    full.f_files = 0
    assert "phoenix_inodes.root" not in {chart.id for chart in Disks().collect(0.0)}, "btrfs counts none"


RUNNING = {"Type": "simple", "RemainAfterExit": "no", "ActiveState": "active", "SubState": "running"}
ENDED = {"ActiveState": "inactive", "SubState": "dead"}


@pytest.mark.parametrize(
    ("own", "stopped"),
    [
        ({}, False),
        (ENDED, True),
        ({"ActiveState": "activating"}, False),
        # Reported as what it is.
        ({"ActiveState": "failed"}, False),
        # Never tried since boot, or not wanted here.
        ({**ENDED, "ConditionResult": "no", "ConditionTimestampMonotonic": "0"}, True),
        ({**ENDED, "ConditionResult": "no", "ConditionTimestampMonotonic": "12"}, False),
        ({**ENDED, "Type": "oneshot"}, False),
        ({**ENDED, "Type": "oneshot", "RemainAfterExit": "yes"}, True),
        ({"Type": "", "SubState": "waiting"}, False),
        ({"Type": "", "SubState": "elapsed"}, True),
    ],
)
def test_an_enabled_unit_is_stopped_when_it_does_nothing(own: dict[str, str], stopped: bool) -> None:
    assert is_stopped({**RUNNING, **own}) is stopped


def test_a_stopped_unit_shows_for_how_long(monkeypatch: pytest.MonkeyPatch) -> None:
    units = ("phoenix-probe.service", "phoenix-backup.timer", "phoenix@.service")
    listed = "".join(f"{unit} enabled enabled\n" for unit in units)
    state = {"ActiveState": "inactive"}

    def run(command: list[str], **_: Any) -> Any:
        if command[1] == "list-unit-files":
            return SimpleNamespace(stdout=listed, stderr="", returncode=0)
        assert command[-2:] == ["phoenix-probe.service", "phoenix-backup.timer"], "an instance has alarms of its own"
        return SimpleNamespace(
            stdout=f"Id=phoenix-probe.service\nType=notify\nRemainAfterExit=no\nActiveState={state['ActiveState']}\n"
            "SubState=x\n\nId=phoenix-backup.timer\nActiveState=active\nSubState=waiting\n"
        )

    monkeypatch.setattr("subprocess.run", run)
    collector = StoppedUnits(["phoenix*"])

    def shown(now: float) -> dict[str, float]:
        return {chart.id: chart.values["stopped"] for chart in collector.collect(now)}

    assert shown(100.0) == {"phoenix_stopped.phoenix-probe": 0.0}
    assert shown(160.0) == {"phoenix_stopped.phoenix-probe": 60.0}
    state["ActiveState"] = "active"
    assert shown(190.0) == {"phoenix_stopped.phoenix-probe": 0.0}
    state["ActiveState"] = "inactive"
    shown(220.0)
    assert shown(250.0) == {"phoenix_stopped.phoenix-probe": 30.0}


def test_without_enabled_units_none_is_stopped_and_an_error_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    done = SimpleNamespace(stdout="", stderr="", returncode=1)
    monkeypatch.setattr("subprocess.run", lambda *_, **__: done)
    assert list(StoppedUnits(["phoenix*"]).collect(0.0)) == []
    done.stderr = "Failed to connect to bus\n"
    with pytest.raises(OSError, match="Failed to connect to bus"):
        list(StoppedUnits(["phoenix*"]).collect(0.0))


def test_a_page_must_contain_its_text(site: http.server.HTTPServer) -> None:
    url = f"http://www.example.org:{site.server_port}/"
    assert next(iter(Site("lb1", "127.0.0.1", url, "Phoe").collect(0.0))).values == {"up": 1}
    assert next(iter(Site("lb1", "127.0.0.1", url, "Fenix").collect(0.0))).values == {"up": 0}


@pytest.fixture(scope="module")
def certificate_files(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """A certificate for a.example and 192.0.2.1 with 30 days left, and its key, of a kind that is made at once."""
    folder = tmp_path_factory.mktemp("certificate")
    files = [str(folder / name) for name in ("certificate.pem", "key.pem")]
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
         "-days", "30", "-subj", "/CN=x", "-addext", "subjectAltName=DNS:a.example,IP:192.0.2.1",
         "-out", files[0], "-keyout", files[1]],
        check=True, capture_output=True,
    )  # fmt: skip
    return files


@pytest.fixture
def tls(certificate_files: list[str]) -> Iterator[int]:
    """The port of a server with that certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate_files)
    with http.server.HTTPServer(("127.0.0.1", 0), Answer) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("name", "matches"), [("a.example", True), ("b.example", False), ("192.0.2.1", True), ("192.0.2.2", False)]
)
def test_a_served_certificate_is_for_its_name_and_ends(tls: int, name: str, matches: bool) -> None:
    left, own = Certificate("127.0.0.1", tls, name, "lb1").collect(0.0)
    assert (left.id, own.id) == (f"phoenix_certificate.lb1_{tls}", f"phoenix_certificate_name.lb1_{tls}")
    assert left.values["left"] == pytest.approx(30, abs=0.1)
    assert own.values == {"matches": matches}


def test_a_server_that_is_down_has_the_certificate_of_before_or_an_unknown_one(tls: int) -> None:
    """As of a database member that restarts: neither an end, nor a collector that fails, is reported."""
    known = Certificate("127.0.0.1", tls, "a.example", "db1")
    (left, _) = known.collect(0.0)
    known.port = free_port()
    kept, own = known.collect(0.0)
    assert kept.values["left"] == pytest.approx(left.values["left"], abs=0.1) and own.values == {"matches": True}
    assert list(Certificate("127.0.0.1", free_port(), "a.example", "db1").collect(0.0)) == []


def test_a_server_that_speaks_no_tls_is_an_error(site: http.server.HTTPServer) -> None:
    with pytest.raises(OSError, match=r".+"):
        list(Certificate("127.0.0.1", site.server_port, "a.example", "lb1").collect(0.0))


def test_no_connection_stays_open_when_a_certificate_cannot_be_read(tls: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that handles one at a time waits for a request on it."""
    opened: list[ssl.SSLSocket] = []

    def secured(*given: Any) -> ssl.SSLSocket:
        opened.append(secure(*given))
        return opened[-1]

    monkeypatch.setattr(nginx, "secure", secured)
    monkeypatch.setattr("subprocess.run", Mock(side_effect=subprocess.TimeoutExpired("openssl", 8)))
    with pytest.raises(subprocess.TimeoutExpired):
        list(Certificate("127.0.0.1", tls, "a.example").collect(0.0))
    (left,) = [one.fileno() for one in opened]
    opened[0].close()
    assert left == -1


def test_what_is_no_certificate_has_no_days_left() -> None:
    with pytest.raises(ValueError, match="no end of the certificate: 'x'"):
        left_days("x", 0.0)


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
    chart, *_ = watch.collect(0.0)
    assert chart.values == {"silent": 0.0}
    agents[1]["reachable"], beats["present"] = False, []
    chart, *_ = watch.collect(0.0)
    assert watch.heard["app1"] == 4e9, "not heard, and when it was last heard is kept"


def test_for_how_long_a_server_is_out_of_rotation(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    watch = FleetWatch("http://parent", [], [], str(tmp_path))
    monkeypatch.setattr(watch, "find_agents", lambda: None)

    def seen(at: float, *out: str) -> tuple[float, float]:
        """How many are out, and for how long the first of them, when exactly these have been since a second ago."""
        if set(out) != set(desired.read_drained(tmp_path)):
            desired.drain(out, "lost", tmp_path)
            os.utime(tmp_path / "drained.json", (at - 1, at - 1))
        monkeypatch.setattr("phoenix.monitoring.fleet.time", SimpleNamespace(time=lambda: at))
        charts = {chart.id: chart.values for chart in watch.collect(0.0)}
        return charts["phoenix_fleet.drained"]["servers"], charts["phoenix_fleet.drained_longest"]["longest"]

    one, other = "192.0.2.21:3000", "192.0.2.22:3000"
    assert seen(1000) == (0, 0)
    assert seen(2000, one) == (1, 1)
    assert seen(2500, one, other) == (2, 501), "another one does not begin it again"
    assert seen(2900, other) == (1, 401), "of those that are out"
    assert seen(3000) == (0, 0)
    assert seen(4000, one) == (1, 1), "back, and out again"
    (tmp_path / "drained.json").write_text("{")
    assert [chart for chart in watch.collect(0.0) if "drained" in chart.id] == [], "plays refuse, and name it"


def test_instances_on_hosts_on_demand_count(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "capacity").write_text("6")
    running = {"app1": 4.0, "extra-1": 2.0}
    watch = FleetWatch("http://parent", [], ["app1"], str(tmp_path))
    monkeypatch.setattr(watch, "find_agents", lambda: None)
    monkeypatch.setattr(watch, "newest", lambda host, chart: (0.0, running[host]))
    record = demand.Store(tmp_path / "hosts.json")
    record.save(lifecycle.Record({"extra-1": lifecycle.Entry("extra-1", "serving", 0)}))
    monkeypatch.setattr(published, "read", functools.partial(published.read, record.path))
    *_, chart = watch.collect(0.0)
    assert chart.values == {"wanted": 6, "running": 6, "missing": 0}
    record.path.write_text("{")
    *_, chart = watch.collect(0.0)
    assert chart.values["missing"] == 2

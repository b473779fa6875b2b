"""Delivery: what is retried, what is given up, and that no message blocks those behind it."""

import http.server
import json
import smtplib
import socket
import threading
import urllib.error
from collections.abc import Iterator
from dataclasses import asdict
from email.message import Message as Headers
from pathlib import Path
from typing import Any, ClassVar

import pytest

from phoenix.alerting import channels, files
from phoenix.alerting.incidents import Settings
from phoenix.alerting.messages import Message, undelivered
from phoenix.alerting.service import Service

KEPT = Settings(give_up_seconds=1e12)


def message(number: int, **more: Any) -> Message:
    values = {"role": "database", "created": 10.0, "subject": f"[Phoenix] {number}", "text": "db1", "alarms": [ALARM]}
    return Message(**{"id": f"{number}000-database", **values, **more})


WORD = "of-the-vault"  # pragma: allowlist secret
ALARM = {"host": "db1", "alarm": "phoenix_mongodb_down", "event": "raised"}


class Receiver:
    """Answers each message by its subject; what it accepted is in `accepted`."""

    def __init__(self, errors: dict[str, Exception]) -> None:
        self.errors, self.tried, self.accepted = errors, list[str](), list[str]()

    def __call__(self, _config: Any, sent: Message) -> str:
        self.tried.append(sent.subject)
        if sent.subject in self.errors:
            raise self.errors[sent.subject]
        self.accepted.append(sent.subject)
        return "accepted"


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "FOLDER", tmp_path)


def channel(settings: Settings = KEPT, **config: Any) -> tuple[channels.Channel, list[tuple[str, Message, str]]]:
    reports: list[tuple[str, Message, str]] = []
    made = channels.Channel("one", {"type": "webhook", **config}, settings, lambda *given: reports.append(given))
    return made, reports


def http_error(code: int) -> urllib.error.HTTPError:
    return urllib.error.HTTPError("http://receiver", code, "no", Headers(), None)


@pytest.mark.parametrize(
    ("error", "permanent"),
    [
        *[(http_error(code), True) for code in (400, 403, 404, 410, 413, 422)],
        *[(http_error(code), False) for code in (302, 401, 408, 425, 429, 500, 503)],
        *[(smtplib.SMTPDataError(code, b""), code >= 500) for code in (451, 452, 550, 552, 554)],
        (smtplib.SMTPSenderRefused(552, b"", "phoenix"), True),
        (smtplib.SMTPSenderRefused(451, b"", "phoenix"), False),
        (smtplib.SMTPRecipientsRefused({"a": (550, b""), "b": (554, b"")}), True),
        (smtplib.SMTPRecipientsRefused({"a": (550, b""), "b": (450, b"")}), False),
        # Of the session, not of the message.
        (smtplib.SMTPAuthenticationError(535, b""), False),
        (smtplib.SMTPConnectError(554, b""), False),
        (smtplib.SMTPServerDisconnected("gone"), False),
        (urllib.error.URLError("refused"), False),
        (TimeoutError(), False),
        (ValueError("Header values may not contain linefeed"), True),
    ],
)
def test_which_errors_are_permanent(error: Exception, permanent: bool) -> None:
    assert channels.permanent(error) is permanent


@pytest.mark.parametrize("error", [http_error(400), smtplib.SMTPDataError(554, b"spam"), ValueError("no header")])
def test_a_message_refused_for_good_is_given_up_and_reported(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    receiver = Receiver({"[Phoenix] 1": error})
    monkeypatch.setitem(channels.SENDERS, "webhook", receiver)
    one, reports = channel()
    for number in (1, 2, 3):
        one.put(message(number))
    assert one.round()
    assert receiver.tried == ["[Phoenix] 1", "[Phoenix] 2", "[Phoenix] 3"]
    assert receiver.accepted == ["[Phoenix] 2", "[Phoenix] 3"]
    ((name, lost, reason),) = reports
    assert (name, lost) == ("one", message(1))
    assert str(error) in reason
    assert (one.dropped, one.delivered, one.waiting(), one.refusing) == (1, 2, [], False)
    assert one.lost(one.losses[0] + 10) == 1
    assert one.lost(one.losses[0] + 4000) == 0


@pytest.mark.parametrize("error", [http_error(500), smtplib.SMTPDataError(451, b"greylisted")])
def test_a_message_refused_for_now_waits_while_the_others_pass(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    receiver = Receiver({"[Phoenix] 1": error})
    monkeypatch.setitem(channels.SENDERS, "webhook", receiver)
    one, reports = channel()
    for number in (1, 2):
        one.put(message(number))
    assert not one.round()
    assert (receiver.accepted, len(one.waiting()), reports) == (["[Phoenix] 2"], 1, [])
    receiver.errors.clear()
    assert one.round()
    assert receiver.accepted == ["[Phoenix] 2", "[Phoenix] 1"]


def test_a_receiver_that_does_not_answer_is_asked_once_a_round(monkeypatch: pytest.MonkeyPatch) -> None:
    receiver = Receiver(dict.fromkeys(("[Phoenix] 1", "[Phoenix] 2"), ConnectionRefusedError()))
    monkeypatch.setitem(channels.SENDERS, "webhook", receiver)
    one, _ = channel()
    for number in (1, 2):
        one.put(message(number))
    assert not one.round()
    assert receiver.tried == ["[Phoenix] 1"]


def test_what_is_too_old_is_given_up_and_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(channels.SENDERS, "webhook", Receiver({"[Phoenix] 1": TimeoutError()}))
    one, reports = channel(Settings(give_up_seconds=1))
    one.put(message(1))
    one.round()
    assert ([lost for _, lost, _ in reports], one.waiting(), one.refusing) == ([message(1)], [], True)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"id": "half a li', "null", '{"recipients": ["a"]}', "\0\0\0"])
def test_a_damaged_file_is_set_aside(content: str, monkeypatch: pytest.MonkeyPatch) -> None:
    receiver = Receiver({})
    monkeypatch.setitem(channels.SENDERS, "webhook", receiver)
    one, _ = channel()
    (one.folder / "0-x.json").write_text(content)
    (one.folder / "name.json").write_text(content)
    one.put(message(1))
    assert one.oldest(5e9) > 0
    assert one.round()
    assert receiver.accepted == ["[Phoenix] 1"]
    assert sorted(path.name for path in one.folder.iterdir()) == ["0-x.unreadable", "name.unreadable"]
    assert one.lost(one.losses[0]) == 2


def test_a_message_of_an_older_version_is_delivered(monkeypatch: pytest.MonkeyPatch) -> None:
    receiver = Receiver({})
    monkeypatch.setitem(channels.SENDERS, "webhook", receiver)
    one, _ = channel()
    (one.folder / "1000-database.json").write_text(json.dumps(asdict(message(1))))
    assert one.round()
    assert receiver.accepted == ["[Phoenix] 1"]


def test_an_error_of_the_disk_does_not_end_the_channel(monkeypatch: pytest.MonkeyPatch) -> None:
    one, _ = channel()
    rounds: list[Exception | bool] = [OSError("no space left"), True]

    def round_() -> bool:
        if not rounds:
            raise SystemExit  # the test's end
        one.wake.set()
        result = rounds.pop(0)
        if isinstance(result, Exception):
            raise result
        return result

    monkeypatch.setattr(one, "round", round_)
    with pytest.raises(SystemExit):
        one.run()
    assert one.attempts == 0


class MailServer:
    """Answers SMTP on loopback: RCPT by the address, as `codes` has it."""

    def __init__(self, codes: dict[str, list[int]]) -> None:
        self.codes, self.accepted = codes, list[str]()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            with connection, connection.makefile("rwb", buffering=0) as stream:
                self.session(stream)

    def session(self, stream: Any) -> None:
        stream.write(b"220 test\r\n")
        taken: list[str] = []
        for line in stream:
            verb, _, rest = line.decode().strip().partition(":")
            verb = verb.upper()
            if verb == "RCPT TO":
                address = rest.split(">")[0].strip("<")
                code = self.codes[address].pop(0) if self.codes.get(address) else 250
                if code == 250:
                    taken.append(address)
                stream.write(f"{code} answer\r\n".encode())
                if code == 421:
                    return
            elif verb == "DATA":
                stream.write(b"354 go on\r\n")
                while stream.readline() != b".\r\n":
                    pass
                self.accepted += taken
                stream.write(b"250 taken\r\n")
            elif verb == "QUIT":
                stream.write(b"221 bye\r\n")
                return
            else:
                taken = [] if verb == "RSET" else taken
                stream.write(b"250 ok\r\n")


def mail_channel(server: MailServer, *to: str) -> tuple[channels.Channel, list[tuple[str, Message, str]]]:
    mail = {"type": "email", "host": "127.0.0.1", "port": server.port, "security": "none", "sender": "p@phoenix.test"}
    return channel(**mail, to=list(to))


def test_refused_recipients_are_retried_alone(capsys: pytest.CaptureFixture[str]) -> None:
    server = MailServer({"b@x.test": [450], "c@x.test": [550]})
    one, reports = mail_channel(server, "a@x.test", "b@x.test", "c@x.test")
    one.put(message(1))
    assert not one.round()
    assert server.accepted == ["a@x.test"]
    assert one.lost(one.losses[0]) == 1
    assert "c@x.test" in capsys.readouterr().out
    assert one.round()
    assert server.accepted == ["a@x.test", "b@x.test"]
    assert (one.delivered, one.dropped, one.waiting()) == (1, 1, [])
    assert (reports, one.refusing) == ([], False), "the message reached the channel's other recipients"


def test_a_recipient_refused_at_the_retry_is_not_the_whole_channel() -> None:
    server = MailServer({"b@x.test": [450, 550]})
    one, reports = mail_channel(server, "a@x.test", "b@x.test")
    one.put(message(1))
    assert not one.round()
    assert one.round()
    assert (server.accepted, one.dropped, one.waiting()) == (["a@x.test"], 1, [])
    assert (reports, one.refusing) == ([], False)


def test_all_recipients_refused_for_good_is_a_loss() -> None:
    server = MailServer({"a@x.test": [550], "b@x.test": [553]})
    one, reports = mail_channel(server, "a@x.test", "b@x.test")
    one.put(message(1))
    assert one.round()
    assert (server.accepted, len(reports), one.refusing) == ([], 1, True)


def test_a_session_that_ends_amid_the_recipients_loses_none() -> None:
    server = MailServer({"b@x.test": [421]})
    one, reports = mail_channel(server, "a@x.test", "b@x.test", "c@x.test")
    one.put(message(1))
    assert not one.round()
    assert one.round()
    assert (server.accepted, reports) == (["a@x.test", "b@x.test", "c@x.test"], [])


class Web(http.server.BaseHTTPRequestHandler):
    bodies: ClassVar[list[bytes]] = []

    def do_POST(self) -> None:
        self.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
        moved = self.path == "/moved"
        self.send_response(302 if moved else 400 if b"poison" in self.bodies[-1] else 200)
        self.send_header("Location", "/page" if moved else "")
        self.end_headers()

    def do_GET(self) -> None:
        self.bodies.append(b"GET with " + self.headers.get("Authorization", "no token").encode())
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def web() -> Iterator[str]:
    Web.bodies.clear()
    with http.server.HTTPServer(("127.0.0.1", 0), Web) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_what_a_receiver_redirects_is_not_delivered(web: str) -> None:
    """A login page or the site by HTTPS would answer the GET with 200, and the alarm would be nowhere."""
    one, _ = channel(url=f"{web}/moved", token="t")
    one.put(message(1))
    assert not one.round()
    assert (one.delivered, one.failed, len(one.waiting())) == (0, 1, 1)
    assert len(Web.bodies) == 1 and b"GET" not in Web.bodies[0]


@pytest.mark.parametrize(
    "config",
    [
        {"url": "http://127.0.0.1:9/", "token": f"{WORD}\n"},
        {"url": f"http://127.0.0.1:9/{WORD} x"},
        {"url": f"hooks.example.org/{WORD}"},
    ],
)
def test_a_reason_never_quotes_a_secret(config: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    one, reports = channel(**config)
    one.put(message(1))
    assert one.round()
    ((_, _, reason),) = reports
    assert channels.MALFORMED in reason
    assert WORD not in reason + capsys.readouterr().out


def test_slack_gets_text_as_data(web: str) -> None:
    channels.send_slack({"url": web}, message(1, subject="a & b", text="<!channel> <https://evil.test|click>"))
    text = json.loads(Web.bodies[0])["text"]
    assert text == "*a &amp; b*\n```&lt;!channel&gt; &lt;https://evil.test|click&gt;```"


def test_a_text_cannot_end_slacks_block_of_code(web: str) -> None:
    channels.send_slack({"url": web}, message(1, text="one\n```\n*two*"))
    text = json.loads(Web.bodies[0])["text"]
    assert text.count("```") == 2 and text.endswith("\n*two*```")


def test_a_damaged_event_or_state_is_put_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty file, as a power cut leaves it, neither stops the service nor is thrown away."""
    spool = tmp_path / "spool"
    spool.mkdir()
    for name, value in (("METRICS", tmp_path / "metrics" / "notify.prom"), ("FOLDER", tmp_path), ("SPOOL", spool)):
        monkeypatch.setattr(f"phoenix.alerting.service.{name}", value)
    (tmp_path / "state.json").write_text("{")
    service = Service({"settings": {}, "recipients": {"default": []}, "channels": {}})
    (spool / "1.json").touch()
    (spool / "2.json").write_text('{"role": "database"}')
    event = dict.fromkeys(("role", "host", "alarm", "chart", "info", "value"), "x") | {"status": "CLEAR", "when": "1"}
    (spool / "3.json").write_text(json.dumps(event))
    assert [found for _, found in service.spooled()] == [event]
    assert sorted(path.name for path in spool.iterdir()) == ["1.unreadable", "2.unreadable", "3.json"]
    assert (tmp_path / "state.unreadable").read_text() == "{"


def test_what_one_channel_gives_up_reaches_the_others(
    web: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("phoenix.alerting.service.METRICS", tmp_path / "metrics" / "notify.prom")
    monkeypatch.setattr("phoenix.alerting.service.FOLDER", tmp_path)
    hook = {"type": "webhook", "url": web}
    service = Service({"settings": {}, "recipients": {"default": ["a"]}, "channels": {"a": hook, "b": hook}})
    service.channels["a"].put(message(1, created=1e12, text="poison of db1"))
    assert service.channels["a"].round()
    ((waiting,),) = [service.channels["b"].waiting()]
    report, _ = service.channels["b"].load(waiting)
    assert report.subject == "[Phoenix] a did not deliver: 1"
    assert "HTTP Error 400" in report.text
    assert "poison of db1" in report.text
    service.report(2e12)
    assert "phoenix_notify_refusing_channels 1\n" in (tmp_path / "metrics" / "notify.prom").read_text()
    # The report is refused too: it is not reported back.
    assert service.channels["b"].round()
    assert [len(one.waiting()) for one in service.channels.values()] == [0, 0]
    service.report(2e12)
    assert "phoenix_notify_refusing_channels 2\n" in (tmp_path / "metrics" / "notify.prom").read_text()


def test_a_single_name_need_not_be_a_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The checks of the inventory and of the role accept it, too."""
    for name, value in (("METRICS", tmp_path / "metrics" / "notify.prom"), ("FOLDER", tmp_path), ("SPOOL", tmp_path)):
        monkeypatch.setattr(f"phoenix.alerting.service.{name}", value)
    server = MailServer({})
    mail = {"type": "email", "host": "127.0.0.1", "port": server.port, "security": "none", "sender": "p@phoenix.test"}
    config = {"settings": {"group_seconds": 0}, "recipients": {"default": "mail"}}
    service = Service({**config, "channels": {"mail": {**mail, "to": "a@x.test"}}})
    values = {"role": "database", "host": "db1", "when": "1", "chart": "c", "alarm": "a", "info": "i | t", "value": "1"}
    (tmp_path / "1.json").write_text(json.dumps({**values, "status": "CRITICAL"}))
    service.step(2.0)
    assert service.channels["mail"].round()
    assert server.accepted == ["a@x.test"]


def test_a_report_names_the_runbook_and_holds_the_message() -> None:
    report = undelivered("mail", message(1), "SMTPDataError: (554, 'spam')", 20.0, Settings())
    assert "docs/runbook.md#alarm-phoenix_notify_refused" in report.text
    assert report.text.endswith("db1")
    assert report.id.startswith("20000-")

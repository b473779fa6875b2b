"""A Git host's webhook (phoenix.pipeline.hook), over real sockets: who knows the secret has the host asked."""

from __future__ import annotations

import hashlib
import hmac
import re
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from phoenix.pipeline import hook
from tests.unit.shared import TOP, rendered

SECRET = "of-the-vault-and-long-enough"  # pragma: allowlist secret
BODY = b'{"ref": "refs/heads/main"}'
TEMPLATES = TOP / "roles" / "ci" / "templates"


def signature(body: bytes = BODY, secret: str = SECRET) -> str:
    return hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def post(headers: dict[str, str], body: bytes = BODY, first: str = "POST / HTTP/1.1") -> bytes:
    fields = {"Host": "control", "Content-Length": str(len(body)), **headers}
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"{first}\r\n{lines}\r\n".encode("latin-1") + body


def answer(request: bytes, asked: Path, *, ends: bool = True, secret: str = SECRET) -> bytes:
    """What the client that sends these bytes is answered; it then ends the connection, or keeps it open."""
    ours, theirs = socket.socketpair()
    received = bytearray()

    def client() -> None:
        try:
            theirs.sendall(request)
            if ends:
                theirs.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # answered before it had sent all
        try:
            while block := theirs.recv(1 << 16):
                received.extend(block)
        except OSError:
            pass

    thread = threading.Thread(target=client)
    thread.start()
    with ours:
        hook.serve(ours, secret, asked)
    thread.join()
    theirs.close()
    return bytes(received)


def status(text: bytes) -> int:
    # Of a first line that is none of HTTP's, the client gets no such line back.
    words = text.split(b" ")
    return int(words[1] if text.startswith(b"HTTP/") else words[0])


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Hub-Signature-256": f"sha256={signature()}"},
        {"X-Gitea-Signature": signature()},
        {"X-Gitea-Signature": signature(), "X-Hub-Signature-256": f"sha256={signature()}"},
        {"X-Gitlab-Token": SECRET},
        {"x-hub-signature-256": f"sha256={signature()}"},
    ],
)
def test_who_knows_the_secret_has_the_host_asked(headers: dict[str, str], tmp_path: Path) -> None:
    asked = tmp_path / "asked"
    assert status(answer(post(headers), asked, ends=False)) == 202
    assert asked.read_bytes() == b"", "nothing of the request"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-Hub-Signature-256": ""},
        {"X-Hub-Signature-256": "sha256="},
        {"X-Hub-Signature-256": signature()},
        {"X-Hub-Signature-256": f"sha256={signature(BODY + b' ')}"},
        {"X-Hub-Signature-256": f"sha256={signature(secret=SECRET.upper())}"},
        {"X-Hub-Signature": f"sha1={hmac.new(SECRET.encode(), BODY, hashlib.sha1).hexdigest()}"},
        {"X-Gitea-Signature": f"sha256={signature()}"},
        {"X-Gitea-Signature": SECRET},
        {"X-Gitlab-Token": signature()},
        {"X-Gitlab-Token": SECRET[:-1]},
        {"X-Gitlab-Token": "\xe9\xff"},
    ],
)
def test_anybody_else_is_refused(headers: dict[str, str], tmp_path: Path) -> None:
    assert status(answer(post(headers), tmp_path / "asked")) == 403
    assert not (tmp_path / "asked").exists()


def test_without_a_secret_all_are_refused(tmp_path: Path) -> None:
    request = post({"X-Gitlab-Token": "", "X-Gitea-Signature": signature(secret="")})
    assert status(answer(request, tmp_path / "asked", secret="")) == 403
    assert not (tmp_path / "asked").exists()


GOOD = {"X-Gitlab-Token": SECRET}


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (post(GOOD, first="GET / HTTP/1.1"), 501),
        (post(GOOD, first="nonsense"), 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
        (post({**GOOD, "Content-Length": "-1"}), 411),
        (post({**GOOD, "Content-Length": "\xb2"}), 411),
        (post({**GOOD, "Content-Length": "x"}), 411),
        (post({**GOOD, "content-length": "5"}), 411),
        (post({**GOOD, "Transfer-Encoding": "chunked"}), 411),
        (post({**GOOD, "Content-Length": str(hook.MOST_BYTES + 1)}), 413),
        (post({**GOOD, "Content-Length": "1000"}), 400),
        (post({f"X-{n}": "x" for n in range(200)} | GOOD), 431),
        (post({"X-Long": "x" * 70000} | GOOD), 431),
        (post(GOOD, first=f"POST /{'x' * 70000} HTTP/1.1"), 414),
    ],
)
def test_what_is_no_such_request_is_refused(request_: bytes, expected: int, tmp_path: Path) -> None:
    assert status(answer(request_, tmp_path / "asked")) == expected
    assert not (tmp_path / "asked").exists()


def test_the_largest_body_is_read_and_not_kept(tmp_path: Path) -> None:
    body = b"x" * hook.MOST_BYTES
    request = post({"X-Gitea-Signature": signature(body)}, body)
    assert status(answer(request, tmp_path / "asked")) == 202


@pytest.mark.parametrize("sent", [b"", b"POST / HTTP/1.1\r\nX: y\r\n", post(GOOD)[:-1]])
def test_one_that_never_ends_is_ended(
    sent: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(hook, "SECONDS", 1)
    answer(sent, tmp_path / "asked", ends=False)
    assert "no whole request in time" in capsys.readouterr().out
    assert not (tmp_path / "asked").exists()


def test_one_that_ends_early_is_no_error(tmp_path: Path) -> None:
    assert answer(b"", tmp_path / "asked") == b""
    assert answer(b"POST / HTTP/1.1\r\n", tmp_path / "asked") != b"HTTP/1.0 202"
    assert not (tmp_path / "asked").exists()


def test_nothing_that_a_client_sends_is_logged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for first in ("POST /canary HTTP/1.1", "CANARY / HTTP/1.1", "canary"):
        answer(post({"X-Gitlab-Token": "canary"}, first=first), tmp_path / "asked")
    seen = capsys.readouterr()
    assert re.fullmatch(r"(-: \d+\n){3}", seen.out)
    assert seen.err == ""


def test_a_folder_that_takes_no_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="asked"):
        answer(post(GOOD), tmp_path / "missing" / "asked")


def test_as_systemd_starts_it(tmp_path: Path) -> None:
    """One process for a connection over TCP, which is its standard input; twice with one request, as a replay."""
    (tmp_path / "secret").write_text(f"{SECRET}\n")
    code = "from pathlib import Path; from phoenix.pipeline import cli, hook; "
    code += f"hook.ASKED = Path({str(tmp_path / 'asked')!r}); raise SystemExit(cli.main(['hook']))"
    environment = {"PYTHONPATH": str(TOP / "src"), "CREDENTIALS_DIRECTORY": str(tmp_path)}
    with socket.create_server(("127.0.0.1", 0)) as server:
        for _ in range(2):
            with socket.create_connection(server.getsockname()) as client:
                client.sendall(post({"X-Gitea-Signature": signature()}))
                ours, _address = server.accept()
                with ours:
                    command = [sys.executable, "-c", code]
                    done = subprocess.run(
                        command, stdin=ours.fileno(), env=environment, capture_output=True, text=True, check=False
                    )
                assert (done.returncode, done.stdout) == (0, "127.0.0.1: 202\n"), done.stderr
                assert status(client.recv(1 << 16)) == 202
            assert (tmp_path / "asked").exists()


def test_the_secret_is_in_one_units_reach() -> None:
    units = {path.name for path in TEMPLATES.glob("phoenix-ci*.j2") if "webhook-secret" in rendered(path)}
    assert units == {"phoenix-ci-hook@.service.j2"}
    unit = rendered(TEMPLATES / "phoenix-ci-hook@.service.j2")
    assert "StandardOutput=journal" in unit, "not the client's socket"
    assert "User=phoenix-hook" in unit


def test_the_socket_is_on_every_interface_and_the_firewall_says_who_reaches_it() -> None:
    """A Git host on the Internet reaches another address than the fleet does."""
    assert "ListenStream=8090\n" in rendered(TEMPLATES / "phoenix-ci-hook.socket.j2")


def test_a_request_during_a_poll_has_another_one_follow() -> None:
    """The file is gone before the host is asked, so that the path unit finds what comes meanwhile."""
    service = rendered(TEMPLATES / "phoenix-ci-source.service.j2")
    path = re.findall(r"(?m)^PathExists=(.+)$", rendered(TEMPLATES / "phoenix-ci-source.path.j2"))
    assert path == [str(hook.ASKED)]
    assert f"ExecStartPre=+/bin/rm -rf {hook.ASKED}\n" in service
    assert service.index("ExecStartPre=") < service.index("ExecStart=/")

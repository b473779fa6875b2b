"""Each application of the corpus is built, started and asked; what can't work is refused with the way out."""

from __future__ import annotations

import io
import json
import os
import secrets
import signal
import socket
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from lab.ports import free_port
from phoenix.build.start import BuildError
from tests.apps.conftest import Builder, Built, accepts, ask, builder
from tests.harness.corpus import APPS, USES, Client, make_repository, write_git_dependency

LEGACY = APPS / "legacy-app"


def client(*ports: int, headers: Mapping[str, str] | None = None) -> Client:
    return Client(*(f"http://127.0.0.1:{port}" for port in ports), headers=headers)


@pytest.fixture(scope="module")
def legacy(old: Builder) -> Built:
    return old.build(LEGACY)


def test_an_old_driver_and_no_signal_handling_work_unchanged(legacy: Built, former_mongodb: str) -> None:
    """Express and the mongodb driver 2.2, as in 2018: built, started, used, stopped and started again."""
    assert legacy.warnings == []
    for name in ("index.js", "package.json", "package-lock.json"):
        assert (legacy.folder / name).read_bytes() == (LEGACY / name).read_bytes(), name
    given = {"DB_CONNECTION_STRING": f"{former_mongodb}/legacy"}
    for start in range(2):
        port = free_port()
        with legacy.process(str(port), **given) as process:
            assert accepts(port, process), f"it does not answer: {process.poll()}"
            pages = [ask(port).body for _ in range(3)]
            assert pages == [f"<h1>Legacy</h1><p>{4 * start + number} visits</p>" for number in (1, 2, 3)]
            # A fourth visit; the client's idle connection does not keep it.
            with socket.create_connection(("127.0.0.1", port), 10) as client:
                client.sendall(b"GET /idle HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
                assert client.recv(4096).startswith(b"HTTP/1.1 404 ")
                process.terminate()
                assert process.wait(30) == -signal.SIGTERM
        with pytest.raises(OSError):
            socket.create_connection(("127.0.0.1", port), 10)


def test_of_mongodb_6_an_old_driver_is_told_that_it_is_too_old(legacy: Built, mongodb: str) -> None:
    """Why the application above needs 5.0: drivers before 3.1 send what later servers refuse."""
    port = free_port()
    with legacy.process(str(port), DB_CONNECTION_STRING=f"{mongodb}/legacy") as process:
        assert accepts(port, process), f"it does not answer: {process.poll()}"
        # Its error is in the log after the answer, and before the next one.
        assert [ask(port).status for _ in range(2)] == [500, 500]
        process.terminate()
        assert "Unsupported OP_QUERY command" in process.communicate(timeout=30)[0]


def test_socketio_answers_polls_and_upgrades_to_a_websocket(old: Builder) -> None:
    with old.build(APPS / "socketio").running() as port:
        USES["socketio"](client(port))


def test_events_stream_and_a_poll_waits(old: Builder) -> None:
    with old.build(APPS / "streams").running() as port:
        USES["streams"](client(port))
        with socket.create_connection(("127.0.0.1", port), 10) as poll:
            poll.sendall(b"GET /poll HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
            # Published until the poll has reached it: the two are separate connections.
            for _ in range(100):
                assert ask(port, "/publish", data=b"").body == "published\n"
                poll.settimeout(0.1)
                try:
                    assert b"news" in poll.recv(4096)
                    break
                except TimeoutError:
                    continue
            else:
                pytest.fail("the poll was never answered")


def test_an_upload_of_50_mb_arrives_whole(old: Builder) -> None:
    with old.build(APPS / "uploads").running() as port:
        USES["uploads"](client(port))


def test_sessions_in_mongodb_belong_to_no_instance(old: Builder, mongodb: str) -> None:
    built = old.build(APPS / "sessions")
    given = {"DB_CONNECTION_STRING": f"{mongodb}/sessions", "SESSION_SECRET": secrets.token_hex(16)}
    with built.running(**given) as one, built.running(**given) as other:
        USES["sessions"](client(one, other))


def test_typescript_is_compiled_and_its_compiler_is_not_in_the_release(old: Builder) -> None:
    built = old.build(APPS / "typescript")
    assert "dist/server.js" in built.names()
    assert "node_modules/typescript" not in built.names()
    with built.running() as port:
        USES["typescript"](client(port))


def test_a_native_module_is_compiled_for_nodejs_8_by_todays_python(old: Builder) -> None:
    with old.build(APPS / "native").running() as port:
        USES["native"](client(port))


def test_start_with_cross_env_preloads_and_npms_variables(old: Builder) -> None:
    with old.build(APPS / "start-shapes").running() as port:
        USES["start-shapes"](client(port))


def test_es_modules_with_a_current_driver_on_a_current_nodejs(current: Builder, mongodb: str) -> None:
    with current.build(APPS / "esm").running(DB_CONNECTION_STRING=f"{mongodb}/esm") as port:
        USES["esm"](client(port))


def test_a_dependency_from_git(old: Builder, root: Path) -> None:
    folder, repository = root / "git-dependency", root / "greeting"
    make_repository(repository)
    # Git reads no repository of another user's.
    user = builder()
    for path in (repository, *repository.rglob("*")):
        os.chown(path, user.pw_uid, user.pw_gid)
    write_git_dependency(folder, f"file://{repository}")
    with old.build(folder).running() as port:
        USES["git-dependency"](client(port))


def test_without_a_lock_file_the_versions_are_recorded_and_shown(old: Builder) -> None:
    built = old.build(APPS / "no-lock")
    recorded = json.loads((built.folder / "package-lock.json").read_text())["dependencies"]["express"]["version"]
    (warning,) = built.warnings
    assert f"(express {recorded})" in warning
    with built.running() as port:
        USES["no-lock"](client(port))


def test_an_application_that_redirects_to_https_trusts_the_proxys_header(old: Builder) -> None:
    with old.build(APPS / "https-redirect").running() as port:
        assert ask(port).status == 301
        USES["https-redirect"](client(port, headers={"X-Forwarded-Proto": "https"}))


def test_an_application_that_writes_beside_its_code_needs_a_writable_path(old: Builder, root: Path) -> None:
    if os.getuid() != 0:
        pytest.skip("only root can own a release that the application can't write to")
    built = old.build(APPS / "writes-beside")
    with built.process("1") as refused:
        assert "EACCES" in refused.communicate(timeout=30)[0]
    writable = root / "writable"
    writable.mkdir()
    os.chown(writable, builder().pw_uid, builder().pw_gid)
    (built.folder / "uploads").symlink_to(writable)  # what the documentation advises to commit
    with built.running() as port:
        USES["writes-beside"](client(port))


def test_a_migration_runs_in_the_releases_environment_before_it_starts(old: Builder, mongodb: str) -> None:
    built = old.build(APPS / "migration")
    given = {"DB_CONNECTION_STRING": f"{mongodb}/migration"}
    with built.process("1", **given) as refused:
        assert "run npm run migrate" in refused.communicate(timeout=30)[0]
    done = built.run("npm run migrate -- --to 2", **given)
    assert (done.returncode, done.stdout) == (0, "before\nmigrated by migration --to 2\n"), done.stderr
    with built.running(**given) as port:
        USES["migration"](client(port))


def test_of_an_application_with_a_worker_the_web_process_runs_and_a_job_can_be_run(old: Builder) -> None:
    built = old.build(APPS / "worker")
    with built.running() as port:
        assert ask(port).body == "web\n"
    assert built.run("npm run nightly -- a b").stdout == "nightly done, 2 arguments\n"


LOCK = '{"name": "variant", "version": "1.0.0", "lockfileVersion": 1}'


@pytest.mark.parametrize(
    ("package", "contents", "remedy"),
    [
        ({"scripts": {"start": "pm2 start server.js"}}, {}, "node server.js"),
        ({"scripts": {"start": "forever start server.js"}}, {}, "node server.js"),
        ({"scripts": {"start": "nodemon server.js"}}, {}, "node server.js"),
        ({"scripts": {"start": "tsc && node dist/server.js"}}, {}, "without a shell"),
        ({"scripts": {"prestart": "tsc", "start": "node server.js"}}, {}, "Do it in prepare"),
        ({"scripts": {"start": "PORT=8080 node server.js"}}, {}, "Leave PORT out"),
        ({"scripts": {"start": "DB_CONNECTION_STRING=x node server.js"}}, {}, "Leave DB_CONNECTION_STRING out"),
        ({"type": "module"}, {}, "nodejs_version"),
        ({"engines": {"node": "^20 || >=22.9"}}, {}, "release_check_engines"),
        ({}, {"package-lock.json": LOCK.replace("1}", "3}")}, "--lockfile-version 2"),
        ({}, {".npmrc": "//registry.example.org/:_authToken=${NPM_TOKEN}\n"}, "release_npmrc"),
        ({"scripts": {"start": "ts-node server.ts"}}, {}, "to dependencies"),
        ({"scripts": {"start": "node dist/server.js"}}, {}, "release_build_script"),
        ({"scripts": {"compile": "tsc"}, "build_script": "dist"}, {}, "it has compile"),
    ],
)
def test_what_can_not_work_is_refused_with_the_way_out(
    old: Builder, variant: Any, package: dict[str, Any], contents: dict[str, str], remedy: str
) -> None:
    script = package.pop("build_script", "")
    folder = variant(package, **{"package-lock.json": LOCK, **contents})
    with pytest.raises(BuildError) as refused:
        old.build(folder, build_script=script)
    assert remedy in str(refused.value)


@pytest.mark.parametrize(("range_", "works"), [(">=6", True), ("8.x", True), ("^8.11.1", True), ("10", False)])
def test_engines_are_read_as_npm_reads_them(old: Builder, variant: Any, range_: str, works: bool) -> None:
    folder = variant({"engines": {"node": range_}}, **{"package-lock.json": LOCK})
    if works:
        old.build(folder)
    else:
        with pytest.raises(BuildError, match=r"excludes Node\.js v8\.11\.1"):
            old.build(folder)


def test_a_module_for_a_later_nodejs_is_a_warning(old: Builder, variant: Any) -> None:
    folder = variant({"dependencies": {"later": "file:later.tgz"}})
    text = json.dumps({"name": "later", "version": "9.0.0", "engines": {"node": ">=20"}}).encode()
    with tarfile.open(folder / "later.tgz", "w:gz") as archive:
        member = tarfile.TarInfo("package/package.json")
        member.size, member.mode = len(text), 0o644
        archive.addfile(member, io.BytesIO(text))
    assert any("later 9.0.0 (>=20)" in warning for warning in old.build(folder).warnings)

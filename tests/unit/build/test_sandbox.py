"""The transient unit that builds run in. What it does to a hostile package is tested end to end, where systemd is."""

from __future__ import annotations

from pathlib import Path

import pytest

from phoenix.build.sandbox import UNIT, Sandbox, SandboxError

FOLDER = Path("/var/lib/phoenix/build/build-x")
SANDBOX = Sandbox("phoenix-build", FOLDER, (Path("/opt/nodejs"),), timeout=60, memory="1G")


def properties(line: list[str]) -> list[str]:
    return [word.removeprefix("--property=") for word in line if word.startswith("--property=")]


def test_the_unit_ends_with_all_that_it_started() -> None:
    found = properties(SANDBOX.line(["node"], {}, FOLDER))
    assert {"KillMode=control-group", "KillSignal=SIGKILL", "RuntimeMaxSec=60", "MemoryMax=1G"} <= set(found)
    assert f"--unit={UNIT}" in SANDBOX.line(["node"], {}, FOLDER), "two builds could run at once"


def test_only_the_builds_own_folder_can_be_written() -> None:
    found = properties(SANDBOX.line(["node"], {}, FOLDER))
    assert {"User=phoenix-build", "ProtectSystem=strict", "NoNewPrivileges=yes", "PrivateTmp=yes"} <= set(found)
    assert [one for one in found if one.startswith(("BindPaths=", "ReadWritePaths="))] == [
        f"BindPaths={FOLDER}",
        f"ReadWritePaths={FOLDER}",
    ]


def test_values_and_secrets_stay_out_of_the_command_line() -> None:
    line = SANDBOX.line(["node"], {"https_proxy": "http://me:secret@proxy"}, FOLDER, {"npmrc": Path("/etc/npmrc")})
    assert "--setenv=https_proxy" in line
    assert not [word for word in line if "me:secret" in word]
    assert "LoadCredential=npmrc:/etc/npmrc" in properties(line)
    assert not [one for one in properties(SANDBOX.line(["node"], {}, FOLDER)) if one.startswith("LoadCredential")]


class Bare(Sandbox):
    """Runs commands as they are."""

    def line(self, words, environment, folder, secrets=None):  # type: ignore[no-untyped-def]
        return list(words)

    def end(self) -> None:
        pass


def test_a_failure_shows_the_end_of_the_output_however_long_it_is(tmp_path: Path) -> None:
    with pytest.raises(SandboxError, match="status 3") as caught:
        Bare("", tmp_path).run(["sh", "-c", "yes | head -c 1000000; echo why; exit 3"], {}, folder=tmp_path)
    assert str(caught.value).endswith("why\n")
    assert len(str(caught.value)) < 10_000


def test_a_stream_that_breaks_off_is_an_error(tmp_path: Path) -> None:
    with (
        pytest.raises(SandboxError, match="unreadable"),
        Bare("", tmp_path).stream(["sh", "-c", "echo part; echo unreadable >&2; exit 2"], folder=tmp_path) as stream,
    ):
        assert stream.read(4) == b"part"

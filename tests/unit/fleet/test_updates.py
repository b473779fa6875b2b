"""What is due on a host, as apt and the kernel report it."""

from __future__ import annotations

from pathlib import Path

import pytest

from phoenix.fleet import updates

SIMULATED = """\
Reading package lists...
The following NEW packages will be installed:
  linux-image-6.1.0-37-amd64
Inst libc6 [2.36-9+deb12u8] (2.36-9+deb12u10 Debian:12.11/stable [amd64])
Inst libssl3 [3.0.15-1~deb12u1] (3.0.16-1~deb12u1 Debian-Security:12/stable-security [amd64]) []
Inst openssl [3.0.15-1] (3.0.17-1 Debian:12.11/stable, Debian-Security:12/stable-security [amd64])
Inst linux-image-6.1.0-37-amd64 (6.1.140-1 Debian-Security:12/stable-security [amd64])
Inst linux-image-amd64 [6.1.128-1] (6.1.140-1 Debian-Security:12/stable-security [amd64])
Conf libc6 (2.36-9+deb12u10 Debian:12.11/stable [amd64])
"""


def test_only_security_updates_of_what_is_installed() -> None:
    assert updates.packages(SIMULATED) == ["libssl3", "openssl", "linux-image-amd64"]


def test_every_update_where_asked() -> None:
    assert updates.packages(SIMULATED, every=True) == ["libc6", "libssl3", "openssl", "linux-image-amd64"]


@pytest.mark.parametrize(
    ("required", "running", "installed", "stale", "reason"),
    [
        (None, "6.1.0-35-amd64", "6.1.0-35-amd64", [], ""),
        (None, "6.1.0-35-amd64", "", [], ""),
        ("linux-image-6.1\nlibc6\n", "1", "1", [], "linux-image-6.1 libc6 asks for it"),
        ("", "1", "1", [], "a package asks for it"),
        (None, "1", "2", ["nginx"], "the kernel 2 is installed, and 1 runs"),
        (None, "1", "1", ["sshd", "nginx", "nginx"], "nginx, sshd still use libraries that were replaced"),
    ],
)
def test_why_a_host_has_to_be_rebooted(
    required: str | None, running: str, installed: str, stale: list[str], reason: str
) -> None:
    assert updates.reboot_reason(required, running, installed, stale) == reason


def test_programs_that_use_a_replaced_library(tmp_path: Path) -> None:
    lines = {
        "10": ("nginx", "7f0 r-xp 0 08:01 9 /usr/lib/x86_64-linux-gnu/libssl.so.3 (deleted)\n"),
        "11": ("sshd", "7f0 r-xp 0 08:01 9 /usr/lib/x86_64-linux-gnu/libssl.so.3\n"),
        "12": ("node", "7f0 rw-s 0 08:01 9 /memfd:shared (deleted)\n7f0 rw-s 0 08:01 9 /var/lib/x.so (deleted)\n"),
    }
    for pid, (name, maps) in lines.items():
        (tmp_path / pid).mkdir()
        (tmp_path / pid / "comm").write_text(f"{name}\n")
        (tmp_path / pid / "maps").write_text(maps)
    (tmp_path / "13").mkdir()  # one that has ended
    assert list(updates.stale(tmp_path)) == ["nginx"]

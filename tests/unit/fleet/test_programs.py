"""Programs that were built for another distribution are refused before anything changes."""

from __future__ import annotations

from typing import Any

import pytest

from phoenix.fleet import inputs, programs

BROUGHT = programs.libraries({"distribution_major_version": "12"})


def checked(linked: str, rc: int = 0, said: str = "", name: str = "bin/mongod") -> list[str]:
    links: dict[str, Any] = {"item": name, "stdout": linked, "rc": 0}
    return programs.errors([links], [{"item": name, "rc": rc, "stderr": said}], BROUGHT)


def test_a_program_that_answers_is_good() -> None:
    assert checked("\tlibcrypto.so.3 => /lib/x86_64-linux-gnu/libcrypto.so.3 (0x00007f)\n") == []
    assert checked("\tnot a dynamic executable\n", name="bin/mongodump") == []


def test_the_build_for_debian_11_is_refused_on_debian_12() -> None:
    """On a bare host, which lacks what comes with the package of libcurl as well."""
    seen = "\tlibcurl.so.4 => not found\n\tlibcrypto.so.1.1 => not found\n\tlibssl.so.1.1 => not found\n"
    assert checked(seen, 127, "error while loading shared libraries: libcurl.so.4") == [
        "bin/mongod needs libcrypto.so.1.1, libssl.so.1.1, which it lacks"
    ]


def test_a_bare_host_gets_libcurl_with_the_server() -> None:
    assert checked("\tlibcurl.so.4 => not found\n\tlibcrypto.so.3 => not found\n", 127, "libcurl.so.4") == []


def test_the_build_for_a_newer_system_is_refused() -> None:
    seen = "bin/node: /lib/x86_64-linux-gnu/libc.so.6: version `GLIBC_2.38' not found (required by bin/node)\n"
    assert checked(seen, 1, name="bin/node") == ["bin/node needs GLIBC_2.38, which it lacks"]


@pytest.mark.parametrize("said", ["cannot execute binary file: Exec format error", ""])
def test_a_program_that_does_not_run_is_refused_whatever_the_reason(said: str) -> None:
    assert checked("", 126, said) == [f"bin/mongod --version ends with 126: {said}"]
    (missing,) = programs.errors([{"item": "bin/node"}], [{"item": "bin/node", "msg": "no such file"}], [])
    assert missing == "bin/node --version ends with no status: no such file"


def test_only_what_is_not_unpacked_is_tried() -> None:
    archive = {"name": "nodejs", "version": "8.11.1", "checksum": "sha256:ab"}
    assert programs.due([archive], ["/opt/nodejs/8.11.1/.phoenix-archive-ab"]) == []
    assert programs.due([archive], ["/opt/nodejs/8.11.1/.phoenix-archive-cd"]) == [archive]


def test_the_archives_of_a_host_are_those_that_the_inventory_names() -> None:
    variables = {"nodejs_version": "8.11.1", "nodejs_archive": "/a/node.tar.xz", "nodejs_archive_checksum": "sha256:ab"}
    (found,) = programs.archives(variables, ["nodejs", "mongodb"])
    assert found == {
        "name": "nodejs",
        "version": "8.11.1",
        "source": "/a/node.tar.xz",
        "checksum": "sha256:ab",
        "programs": ["bin/node"],
    }


@pytest.mark.parametrize(
    ("installed", "version", "expected"),
    [
        ("", "6.0.5", ""),
        ("6.0.5", "6.0.27", ""),
        ("6.0.27", "6.0.5", ""),
        ("5.0.4", "6.0.5", ""),
        ("6.0.5", "5.0.4", "restore a dump into a new replica set"),
        ("5.0.4", "7.0.2", "upgrade to 6.0 first"),
    ],
)
def test_a_release_of_mongodb_that_does_not_read_the_data_is_refused(
    installed: str, version: str, expected: str
) -> None:
    found = inputs.mongodb_step_error(version, installed)
    assert bool(found) == bool(expected) and expected in found

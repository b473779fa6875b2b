"""A build of hostile code on the control host: it ends, and reaches nothing that is not its own."""

from __future__ import annotations

import base64
import gzip
import io
import json
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

HOSTILE = Path(__file__).resolve().parents[1] / "fixtures" / "hostile-build" / "hostile.js"
TRIAL = "/var/lib/phoenix/build/trial"
PACKAGE = {"name": "victim", "version": "1.0.0", "scripts": {"start": "node server.js"}}
DEPENDENCY = {"name": "hostile", "version": "1.0.0", "scripts": {"postinstall": "node hostile.js"}}
SERVER = "// What `npm start` names has to be in the release.\n"
SECRET = "//registry.example.org/:_authToken=of-the-trial"


def tar(contents: Mapping[str, str | bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in contents.items():
            data = content.encode() if isinstance(content, str) else content
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(data), 0o644
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def by_install_script() -> bytes:
    """An application with one malicious dependency."""
    hostile = {
        "package/package.json": json.dumps(DEPENDENCY),
        "package/hostile.js": HOSTILE.read_text(encoding="utf-8"),
    }
    lock = {"lockfileVersion": 1, "requires": True, "dependencies": {"hostile": {"version": "file:hostile.tgz"}}}
    return tar(
        {
            "package.json": json.dumps({**PACKAGE, "dependencies": {"hostile": "file:hostile.tgz"}}),
            "package-lock.json": json.dumps({"name": "victim", "version": "1.0.0", **lock}),
            "hostile.tgz": gzip.compress(tar(hostile)),
            "server.js": SERVER,
        }
    )


def by_settings() -> bytes:
    """An application whose .npmrc has npm itself run a program."""
    return tar(
        {
            "package.json": json.dumps(PACKAGE),
            "package-lock.json": json.dumps({"name": "victim", "version": "1.0.0", "lockfileVersion": 1}),
            ".npmrc": "onload-script=${HOME}/../release/hostile.js\n",
            "hostile.js": HOSTILE.read_text(encoding="utf-8"),
            "server.js": SERVER,
        }
    )


@pytest.fixture
def builder(fleet: dict[str, Any]) -> Iterator[Any]:
    """The control host, with a file that root alone can read and an npmrc with a credential."""
    host = next(host for name, host in fleet.items() if name.startswith("control"))
    host.check_output(
        f"mkdir -p {TRIAL}/releases /etc/phoenix && touch /etc/npmrc && cp -p /etc/npmrc {TRIAL}/npmrc && "
        f"(umask 077; echo root-only-content >/etc/phoenix/root-only; cat {TRIAL}/npmrc >{TRIAL}/with-secret; "
        f"echo {SECRET} >>{TRIAL}/with-secret) && cp -p {TRIAL}/with-secret /etc/npmrc"
    )
    yield host
    host.check_output(
        f"cp -p {TRIAL}/npmrc /etc/npmrc; rm -rf {TRIAL} /etc/phoenix/root-only /etc/phoenix/was-here; "
        "ps -u phoenix-build -o pid= | xargs -r kill -9"
    )


@pytest.mark.parametrize("source", [by_install_script, by_settings])
def test_a_hostile_package_reaches_nothing_and_ends_with_its_build(builder: Any, source: Any) -> None:
    text = base64.b64encode(source()).decode()
    builder.check_output(f"echo {text} | base64 -d >{TRIAL}/source.tar")
    # What it swaps are moments of some microseconds: several tries.
    for number in range(4):
        builder.check_output(
            f"phoenixctl build release build --version trial-{number} --releases {TRIAL}/releases "
            f"--scratch {TRIAL} --source {TRIAL}/source.tar"
        )
        archive = f"{TRIAL}/releases/trial-{number}.tar.gz"
        assert builder.run("ps -u phoenix-build -o pid,args --no-headers").stdout.strip() == ""
        assert not builder.file("/etc/phoenix/was-here").exists, "root wrote through the link of a package"
        assert builder.run(f"zgrep -q root-only-content {archive}").rc == 1, "root read through the link of a package"
        # Its first line is the shell's, so it is the start script, not what the package put in its place.
        assert builder.check_output(f"tar xOf {archive} ./.phoenix-start").startswith("#!/bin/sh\n")
        seen = json.loads(builder.check_output(f"tar xOf {archive} ./seen.json"))
        assert [place for place, answer in seen.items() if answer == "readable"] == [], seen
        assert builder.run(f"zgrep -q of-the-trial {archive}").rc == 1

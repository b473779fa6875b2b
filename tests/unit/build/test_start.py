"""npm start without npm: what it refuses, what it hands on, and what has to be in the release."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from phoenix.build import start


@pytest.mark.parametrize("command", ["nodemon server.js", "cross-env A=b node_modules/.bin/nodemon -r dotenv/config ."])
def test_a_watcher_is_refused_since_it_would_stay_down_after_a_crash(command: str) -> None:
    with pytest.raises(start.BuildError, match=r"stay down.*node server.js"):
        start.parse_start(command)


def test_npms_variables_reach_the_program_as_they_are(tmp_path: Path) -> None:
    package = {
        "name": "@acme/it's $HOME",
        "version": "1.2.3",
        "config": {"port-base": 80, "on": True, "list": ["a"]},
        "scripts": {"start": "/usr/bin/env"},
        "description": "not among them",
    }
    script = tmp_path / ".phoenix-start"
    script.write_text(start.start_script(package, False))
    shown = subprocess.run(["sh", str(script)], env={"PATH": "/bin"}, capture_output=True, text=True, check=True)
    assert sorted(line for line in shown.stdout.splitlines() if line.startswith("npm_")) == [
        "npm_lifecycle_event=start",
        "npm_package_config_list_0=a",
        "npm_package_config_on=true",
        "npm_package_config_port_base=80",
        "npm_package_name=@acme/it's $HOME",
        "npm_package_version=1.2.3",
    ]


@pytest.mark.parametrize(
    ("command", "file"),
    [
        ("node server", "server"),
        ("node ./dist/../a.js --port 1", "a.js"),
        ("node --max-old-space-size=100 -r dotenv/config a.js", "a.js"),
        ("cross-env A=b node a.js", "a.js"),
        ("node -e 1", ""),
        ("node $FILE", ""),
        ("node /srv/a.js", ""),
        ("other a.js", ""),
    ],
)
def test_the_file_that_node_is_given(command: str, file: str) -> None:
    assert start.entry(start.parse_start(command)[1]) == file


@pytest.mark.parametrize(
    "command",
    [
        "node server",
        "node .",
        "node lib",
        "node linked/dist/server.js",
        "tool a.js",
        "./run",
        "sh run",
        "cross-env A=b node server.js",
        "node missing.js/../server.js",
    ],
)
def test_what_the_release_holds_can_be_started(command: str) -> None:
    files = {".", "server.js", "index.js", "lib/index.js", "run", "node_modules/.bin/tool"}
    start.refuse_missing(command, files, {"linked", "node_modules/.bin/cross-env"})


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("node dist/server.js", "release_build_script"),
        ("ts-node server.ts", "devDependencies"),
        ("cross-env A=b ts-node server.ts", "devDependencies"),
        ("./run", "'./run'"),
    ],
)
def test_what_it_does_not_hold_is_refused_with_the_way_out(command: str, words: str) -> None:
    with pytest.raises(start.BuildError, match=words):
        start.refuse_missing(command, {"server.js", "node_modules/.bin/cross-env"}, set())

"""The Node.js of a release: the one that it was built for, whatever the host has besides."""

from __future__ import annotations

from pathlib import Path

import pytest

from phoenix.build import start
from phoenix.instances import command, releases


def test_a_release_runs_with_the_node_that_it_was_built_for(host: Path) -> None:
    release, node = host / "releases" / "1", host / "nodejs" / "8.11.1"
    assert releases.node(release) == "", "one of an earlier version of Phoenix: that of the configuration"
    assert releases.unpacked("1") == release
    (release / ".phoenix-node").write_text(f"{node}\n")
    with pytest.raises(releases.NotUnpacked, match="nodejs_archives"):
        releases.unpacked("1")
    (node / "bin").mkdir(parents=True)
    (node / "bin" / "node").touch()
    assert releases.unpacked("1") == release and releases.node(release) == str(node)


def test_it_stands_before_any_other_on_the_path() -> None:
    package = {"scripts": {"start": "node server.js"}}
    wanted = 'export PATH="$PWD/node_modules/.bin:/opt/nodejs/24.21.0/bin:$PATH"'
    assert wanted in start.start_script(package, False, "/opt/nodejs/24.21.0").splitlines()
    assert command.shell_text(package, ["node a.js"], "/opt/nodejs/24.21.0").startswith(f"{wanted}; ")
    assert 'export PATH="$PWD/node_modules/.bin:$PATH"' in start.start_script(package, False)

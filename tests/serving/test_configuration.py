"""nginx takes the configuration in each combination of settings, and serves with all of them at once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.harness.real_nginx import EVERYTHING, Instances, Site, Sites
from tests.unit.shared import SAMPLES, TOP, inputs

VARIANTS = [{}, *SAMPLES["variants"]["nginx/nginx.conf.j2"], *SAMPLES["variants"]["nginx/upstreams.conf.j2"]]


@pytest.mark.parametrize("settings", VARIANTS, ids=lambda settings: ",".join(settings) or "defaults")
@pytest.mark.usefixtures("sites")
def test_nginx_takes_it(
    settings: dict[str, Any], nginx_program: str, instances: Instances, tmp_path: Path, ipv6: bool
) -> None:
    own = {**settings, "nginx_listen_ipv6": settings.get("nginx_listen_ipv6", False) and ipv6}
    Site(nginx_program, tmp_path, instances, **own).run("-t")


@pytest.fixture(scope="session")
def ipv6() -> bool:
    """Whether this machine has it; nginx tests a configuration by opening its ports."""
    return Path("/proc/net/if_inet6").exists()


def test_everything_at_once(sites: Sites, instances: Instances) -> None:
    site = sites(**EVERYTHING)
    before = len(instances.seen())
    for path in ("/", "/a/x", "/b/", "/c/x"):
        answer = site.get(path)
        assert answer.status == 200
        assert json.loads(answer.raw.split(b"\r\n\r\n", 1)[1])["path"] == path
    for path in ("/crash", "/a/../crash", "/ci/", "/.phoenix/502.html"):
        assert site.get(path).status == 404
    assert len(instances.seen()) == before + 4


@pytest.mark.skipif(os.getuid() != 0, reason="the module gives its files to root")
def test_a_configuration_that_nginx_refuses_leaves_the_upstreams_that_the_old_one_needs(
    nginx_program: str, instances: Instances, tmp_path: Path
) -> None:
    """Or nginx would take no file any more: no drain, no deploy, no start."""
    isolated = [{"address": "127.0.0.1", "port": instances.spare}]
    site = Site(nginx_program, tmp_path / "site", instances, nginx_unwanted_policy="isolate", nginx_isolate=isolated)
    command = tmp_path / "bin" / "nginx"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {nginx_program} -e {site.folder}/log/error.log "$@"\n')
    command.chmod(0o755)
    tested = inputs("nginx")["__nginx_validate"].replace("/etc/nginx", str(site.folder))
    paths = [one["path"] for one in inputs("nginx")["__nginx_files"][:2]]
    validate = {Path(path.replace("/etc/nginx", str(site.folder))): tested for path in paths}

    def written(**settings: Any) -> Any:
        texts = site.texts(**settings)
        assert list(texts) == list(validate), "the role's files, in its order"
        files = [{"path": str(path), "content": text, "validate": validate[path]} for path, text in texts.items()]
        done = subprocess.run(
            [sys.executable, TOP / "library" / "managed_files.py"],
            env={**os.environ, "PATH": f"{command.parent}:{os.environ['PATH']}"},
            input=json.dumps({"ANSIBLE_MODULE_ARGS": {"files": files}}),
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        return json.loads(done.stdout)

    before = {path: path.read_text() for path in validate}
    for wrong, said in (
        ({"nginx_unwanted_policy": "block", "nginx_body_max": "1zz"}, '"client_max_body_size" directive invalid value'),
        ({"nginx_max_fails": "many"}, 'invalid parameter "max_fails=many"'),
    ):
        result = written(**wrong)
        assert "refused the new content" in result["msg"] and said in result["msg"]
        assert {path: path.read_text() for path in validate} == before
        site.run("-t")
    # What is new in both files is taken at once, in either direction.
    for policy in ("block", "isolate"):
        assert written(nginx_unwanted_policy=policy)["changed_paths"] == list(map(str, validate))
        site.run("-t")

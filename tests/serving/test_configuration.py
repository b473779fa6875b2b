"""nginx takes the configuration in each combination of settings, and serves with all of them at once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.harness.real_nginx import EVERYTHING, Instances, Site, Sites
from tests.unit.shared import SAMPLES

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

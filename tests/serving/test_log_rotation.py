"""The logs of a real nginx, rotated by logrotate with the role's settings: their size has the README's bound."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.harness import debian
from tests.harness.real_nginx import Site
from tests.harness.waiting import wait_for
from tests.unit.shared import TOP, rendered

TEMPLATES = TOP / "roles" / "nginx" / "templates"
KEPT, LIMIT, REQUESTS = 3, 10_000, 40


@pytest.fixture
def rotate(site: Site, tmp_path: Path) -> Callable[[], None]:
    """Run logrotate as its timer does; nginx is told by its process number, for lack of a unit."""
    program = debian.program("logrotate", "usr/sbin/logrotate", "libpopt0")
    systemctl = tmp_path / "systemctl"
    systemctl.write_text(f'#!/bin/sh\nkill -USR1 "$(cat {site.folder}/pid)"\n')
    systemctl.chmod(0o755)
    own = {"nginx_log_max": LIMIT, "nginx_log_keep_files": KEPT}
    text = rendered(TEMPLATES / "logrotate.j2", own).replace("/var/log/nginx", str(site.folder / "log"))
    configuration = tmp_path / "nginx"
    configuration.write_text(text.replace("www-data adm", "root root"))  # as which nginx runs here
    configuration.chmod(0o644)
    environment = {**debian.environment(program), "PATH": f"{tmp_path}:{os.environ['PATH']}"}

    def run() -> None:
        command = [program, "--state", str(tmp_path / "state"), str(configuration)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0 and not done.stderr, done.stderr

    return run


@pytest.mark.skipif(os.getuid() != 0, reason="logrotate gives its files to root")
def test_a_flood_of_refused_requests_takes_a_bounded_place(site: Site, rotate: Callable[[], None]) -> None:
    """Within one day, on which it was rotated already: by its size alone, and no more files than are kept."""
    log = site.folder / "log" / "access.log"
    rotate()
    sizes = []
    for number in range(KEPT + 3):
        before = log.stat().st_ino
        for _ in range(REQUESTS):
            assert site.get(f"/crash?{'x' * 900}").status == 404
        wait_for(lambda: log.stat().st_size > LIMIT, 5, "the lines of the log")
        sizes.append(log.stat().st_size)
        rotate()
        wait_for(lambda before=before: log.stat().st_ino != before, 5, "the new file")  # type: ignore[misc]
        assert len(list(log.parent.glob("access.log-*"))) == min(number + 1, KEPT)
        time.sleep(1)  # a name has the second
    rotated = sorted(log.parent.glob("access.log-*"))
    assert [path.suffix == ".gz" for path in rotated] == [True] * (KEPT - 1) + [False]
    assert sum(path.stat().st_size for path in rotated) <= KEPT * max(sizes)
    assert site.get("/crash?after").status == 404
    assert site.logged("/crash?after")["status"] == 404, "nginx writes to the new file"

"""What docs/examples/seal-image leaves of the host from which an image is made."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.unit.shared import TOP, rendered

TEMPLATE = TOP / "roles" / "netdata" / "templates" / "netdata.conf.j2"


def test_hosts_made_from_it_report_under_their_own_names(tmp_path: Path) -> None:
    """The parent would take all of them for the one that the image was made from: Netdata takes the host's name."""
    configuration = tmp_path / "netdata.conf"
    configuration.write_text(rendered(TEMPLATE))
    assert "hostname" in configuration.read_text()
    script = (TOP / "docs" / "examples" / "seal-image").read_text()
    (command,) = [line for line in script.splitlines() if "netdata.conf" in line]
    subprocess.run(["sh", "-c", command.replace("/etc/netdata/netdata.conf", str(configuration))], check=True)
    assert "hostname" not in configuration.read_text()

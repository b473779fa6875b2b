"""The fleets of the lab that `make test` does not start have inventories that the preflight accepts."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.unit.evaluate import STATE
from tests.unit.shared import TOP, evaluate, read_yaml

# By `make test` itself; the example and the fleet of many networks have tests of their own.
ELSEWHERE = {"lab", "networks", "production"}
FOUND = sorted(path.name for path in (TOP / "inventories").iterdir() if (path / "hosts.yml").exists())
PROFILES = [name for name in FOUND if name not in ELSEWHERE]


@pytest.fixture(scope="module")
def inventories(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of all of them: secrets are generated beside each, and the key of a fleet that was started is there."""
    top = tmp_path_factory.mktemp("checkout")
    shutil.copytree(TOP / "inventories", top / "inventories", symlinks=True, ignore=lambda *_: [".secrets"])
    (top / "lab").symlink_to(TOP / "lab")
    (top / ".lab").mkdir()
    (top / ".lab" / "id_ed25519.pub").write_text("ssh-ed25519 KEY lab\n", "utf-8")
    return top / "inventories"


@pytest.mark.parametrize("profile", PROFILES)
def test_the_inventory_of_each_profile_has_no_error(profile: str, inventories: Path) -> None:
    specs = "'roles' | phoenix_known_variables('playbooks')"
    late = [*read_yaml(TOP / "roles/preflight/defaults/main.yml")["preflight_late_variables"], *STATE]
    check = f"hostvars | phoenix_inventory_errors(groups, {specs}, late_variables={late})"
    found: list[str] = evaluate(inventories / profile, {"control1": check})["control1"]
    # They come over the network, after the unit tests perhaps.
    assert [error for error in found if ".cache/archives/" not in error] == []

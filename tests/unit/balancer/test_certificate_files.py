"""What the role nginx keeps of certificates on a load balancer: what its configuration names, and nothing else."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar

from tests.unit.shared import TOP, inputs, read_yaml, rendered, trusted

ROLE = TOP / "roles" / "nginx"
SETTINGS: dict[str, Any] = {
    "nginx_server_names": ["www.example.org"],
    "nginx_certificates": [{"names": ["*.shop.example.org", "shop.example.org"], "certificate": "", "key": ""}],
    "nginx_acme_names": [["a.example.org", "b.example.org"], ["*.example.net"]],
}
OTHERS = ["gone.example.org.pem", "old.example.org.crt", "old.example.org.key"]


@pytest.mark.usefixtures("ansible_plugins")
def test_what_is_served_stays_and_the_rest_is_removed() -> None:
    served = set(
        re.findall(
            r"ssl_certificate(?:_key)? /etc/nginx/tls/(\S+);", rendered(ROLE / "templates/nginx.conf.j2", SETTINGS)
        )
    )
    assert served == {"phoenix.crt", "phoenix.key", "_.shop.example.org.pem", "a.example.org.pem", "_.example.net.pem"}
    tasks = read_yaml(ROLE / "tasks" / "configure.yml")
    (task,) = (task for task in tasks if task["name"] == "Remove certificates that are served no longer")
    found = {"files": [{"path": f"/etc/nginx/tls/{name}"} for name in sorted({*served, *OTHERS})]}
    variables = inputs("nginx") | SETTINGS | task["vars"] | {"__nginx_keys": found}
    templar = Templar(loader=DataLoader(), variables=trusted(variables))
    assert templar.template(trusted(task["loop"])) == OTHERS


@pytest.mark.usefixtures("ansible_plugins")
def test_those_by_acme_are_read_by_the_names_under_which_they_are_issued() -> None:
    (task,) = (
        task
        for task in read_yaml(ROLE / "tasks" / "certificates.yml")
        if task["name"] == "Read what was issued by ACME"
    )
    templar = Templar(loader=DataLoader(), variables=trusted(inputs("nginx") | SETTINGS))
    assert templar.template(trusted(task["loop"])) == ["thumbprint", "a.example.org.pem", "_.example.net.pem"]


@pytest.mark.usefixtures("ansible_plugins")
def test_the_default_one_stands_in_until_one_is_issued(tmp_path: Path) -> None:
    """Whatever replaces it meanwhile, and without a newline at its end, as a lookup of a file gives it."""
    (task,) = (
        task
        for task in read_yaml(ROLE / "tasks" / "certificates.yml")
        if task["name"] == "Have the default one serve for those that are not issued yet"
    )
    folder = tmp_path / "tls"
    folder.mkdir()
    chain, key, served = (folder / name for name in ("phoenix.crt", "phoenix.key", "a.example.org.pem"))
    own = {"__nginx_tls_folder": str(folder), "__nginx_certificate": str(chain), "__nginx_key": str(key)}
    variables = inputs("nginx") | SETTINGS | own | {"item": served.name}
    command = Templar(loader=DataLoader(), variables=trusted(variables)).template(
        trusted(task["ansible.builtin.shell"]["cmd"])
    )

    def made(name: str) -> None:
        order = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        order += ["-subj", f"/CN={name}", "-keyout", str(key), "-out", str(chain)]
        subprocess.run(order, check=True, capture_output=True)
        chain.write_text(chain.read_text().rstrip())

    def written() -> bool:
        done = subprocess.run(["sh", "-c", command], check=True, capture_output=True, text=True)
        assert sorted(folder.iterdir()) == [served, chain, key] and list(tmp_path.iterdir()) == [folder]
        assert served.stat().st_mode & 0o777 == 0o600
        return "written" in done.stdout

    def served_name() -> str:
        """Of a chain and a key that belong together."""
        order = ["openssl", "x509", "-noout", "-pubkey", "-subject", "-nameopt", "multiline", "-in", str(served)]
        shown = subprocess.run(order, check=True, capture_output=True, text=True).stdout
        order = ["openssl", "pkey", "-pubout", "-in", str(served)]
        assert subprocess.run(order, check=True, capture_output=True, text=True).stdout in shown
        return shown.split()[shown.split().index("commonName") + 2]

    made("first")
    assert written() and not written() and served_name() == "first"
    made("second")
    assert written() and not written() and served_name() == "second"
    served.write_text(served.read_text().replace("-----BEGIN PRIVATE", " -----BEGIN PRIVATE"))
    assert written() and served_name() == "second", "what nginx could not read is written again"
    served.write_text(f"{chain.read_text()}\n{key.read_text()}")
    made("third")
    assert not written() and served_name() == "second", "one that was issued stays"

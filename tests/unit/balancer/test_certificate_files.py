"""What the role nginx keeps of certificates on a load balancer: what its configuration names, and nothing else."""

import re
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

"""Certificates by ACME: what is refused, what is due, and what becomes of what the client does."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from phoenix.balancer import acme
from phoenix.common import openssl
from tests.unit.shared import TOP, read_yaml

DAY = acme.DAY
NOW = 1_800_000_000.0
SOUND: dict[str, Any] = {
    "certificates": [
        {"names": ["www.example.org", "example.org"]},
        {"names": ["*.example.net"], "challenge": "dns-01"},
    ],
    "email": "operations@example.org",
    "directory": "https://acme.example.org/directory",
    "dns_hook": "files/hook",
}


def test_sound_settings_are_taken() -> None:
    assert acme.errors(SOUND) == []
    assert acme.errors({**SOUND, "certificates": [], "email": ""}, tls=False) == []


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"email": ""}, "acme_email = '': give the address"),
        ({"email": "operations"}, "acme_email = 'operations'"),
        ({"directory": "http://acme.example.org/"}, "acme_directory = 'http://acme.example.org/': give the https://"),
        ({"certificates": "www.example.org"}, "acme_certificates: 'www.example.org' isn't a list"),
        ({"certificates": ["www.example.org"]}, "acme_certificates[0]: 'www.example.org' has no list of names"),
        ({"certificates": [{"names": "www.example.org"}]}, "has no list of names"),
        ({"certificates": [{"names": []}]}, "acme_certificates[0].names = []: give the host names"),
        ({"certificates": [{"names": ["192.0.2.1"]}]}, "'192.0.2.1' is no host name"),
        (
            {"certificates": [{"names": ["WWW.example.org"]}]},
            "'WWW.example.org' is no host name; give one in lower case",
        ),
        ({"certificates": [{"names": ["a.example.org; return 200"]}]}, "is no host name"),
        ({"certificates": [{"names": ["localhost"]}]}, "'localhost' is no host name"),
        ({"certificates": [{"names": ["../../etc.org"]}]}, "is no host name"),
        ({"certificates": [{"names": ["a.*.example.org"]}]}, "is no host name"),
        ({"certificates": [{"names": ["*.example.org"]}]}, "*.example.org needs challenge: dns-01"),
        ({"certificates": [{"names": ["a.example.org"], "challenge": "tls-alpn-01"}]}, "give http-01 or dns-01"),
        ({"dns_hook": ""}, "acme_certificates[1].challenge = dns-01 needs acme_dns_hook"),
        (
            {"certificates": [{"names": ["a.example.org"]}, {"names": ["a.example.org"]}]},
            "acme_certificates[1].names: a.example.org is in acme_certificates[0] as well",
        ),
        ({"certificates": [{"names": ["old.example.org"]}]}, "old.example.org is in nginx_certificates as well"),
        ({"certificates": [{"names": [f"a{n}.example.org" for n in range(101)]}]}, "101 are more than the 100"),
    ],
)
def test_what_no_ca_would_issue_or_nobody_could_serve_is_refused(change: Mapping[str, Any], expected: str) -> None:
    found = acme.errors({**SOUND, **change}, served=["old.example.org"])
    assert len(found) == 1
    assert expected in found[0]


def test_they_need_tls() -> None:
    assert "nginx_tls_enabled = false" in acme.errors(SOUND, tls=False)[0]


def configuration(*certificates: Mapping[str, Any]) -> acme.Config:
    values = {"directory": SOUND["directory"], "email": SOUND["email"], "hook": "/usr/local/lib/hook"}
    return acme.parse(json.dumps({**values, "certificates": list(certificates)}))


@pytest.mark.parametrize(
    "text",
    ["[]", "{}", '{"directory": "", "email": "", "certificates": [], "other": 1}', '{"certificates": [{"name": "x"}]}'],
)
def test_another_configuration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a configuration"):
        acme.parse(text)


def test_a_configuration_is_checked_as_the_settings() -> None:
    with pytest.raises(ValueError, match="is no host name"):
        configuration({"names": ["x"]})


NAMES = ["www.example.org", "example.org"]


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (None, "there is none"),
        (openssl.Seen(frozenset(NAMES), NOW, NOW + 90 * DAY), ""),
        (openssl.Seen(frozenset(NAMES), NOW - 59 * DAY, NOW + 31 * DAY), ""),
        (openssl.Seen(frozenset(NAMES), NOW - 61 * DAY, NOW + 29 * DAY), "it ends on 2027-02-13"),
        # Of 45 days, half is left; of 6 days too.
        (openssl.Seen(frozenset(NAMES), NOW - 22 * DAY, NOW + 23 * DAY), ""),
        (openssl.Seen(frozenset(NAMES), NOW - 23 * DAY, NOW + 22 * DAY), "it ends on 2027-02-06"),
        (openssl.Seen(frozenset(NAMES), NOW - 2 * DAY, NOW + 4 * DAY), ""),
        (openssl.Seen(frozenset(NAMES), NOW - 90 * DAY, NOW - DAY), "it ends on 2027-01-14"),
        (openssl.Seen(frozenset(NAMES[:1]), NOW, NOW + 90 * DAY), "it is for www.example.org"),
        (
            openssl.Seen(frozenset([*NAMES, "old.example.org"]), NOW, NOW + 90 * DAY),
            "it is for example.org, old.example.org",
        ),
    ],
)
def test_what_is_due(seen: openssl.Seen | None, expected: str) -> None:
    found = acme.reason(seen, NAMES, NOW)
    assert found.startswith(expected)
    assert bool(found) == bool(expected)


def test_the_account_has_one_key_and_the_thumbprint_of_it(tmp_path: Path) -> None:
    folder = tmp_path / "acme"
    thumbprint = acme.account(folder)
    key = (folder / "account.key").read_bytes()
    assert acme.account(folder) == thumbprint == (folder / "thumbprint").read_text().strip()
    assert (folder / "account.key").read_bytes() == key
    assert ((folder / "account.key").stat().st_mode & 0o777, folder.stat().st_mode & 0o777) == (0o600, 0o700)
    # By another library, as RFC 7638 has it.
    private = load_pem_private_key(key, None)
    assert isinstance(private, ec.EllipticCurvePrivateKey)
    point = private.public_key().public_numbers()
    x, y = (acme._base64url(number.to_bytes(32, "big")) for number in (point.x, point.y))
    web_key = json.dumps({"crv": "P-256", "kty": "EC", "x": x, "y": y}, separators=(",", ":"))
    assert thumbprint == acme._base64url(hashlib.sha256(web_key.encode()).digest())


def test_the_command_line_has_each_name_and_no_secret() -> None:
    config = configuration({"names": NAMES}, {"names": ["*.example.net"], "challenge": "dns-01"})
    http, dns = (acme.command(config, one, Path("/folder")) for one in config.certificates)
    assert [name for flag, name in pairwise(http) if flag == "--domains"] == NAMES
    assert ("--http" in http, "--dns" in http) == (True, False)
    assert dns[-4:] == ["--dns", "exec", "--dns.disable-cp", "run"]
    assert config.certificates[1].file == "_.example.net.pem"


Client = Callable[[str], None]


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Client:
    """Put a shell program in the place of lego; $certificates is where it has to write."""
    folder = tmp_path / "bin"
    folder.mkdir()

    def be(text: str) -> None:
        program = folder / "lego"
        head = 'while [ "$1" != --path ]; do shift; done; certificates=$2/certificates; mkdir "$certificates"'
        program.write_text(f"#!/bin/sh\n{head}\n{text}\n")
        program.chmod(0o755)

    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return be


def make(*names: str, key: str = "$certificates/www.example.org.key") -> str:
    return (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 90 -subj /CN=x"
        f" -addext subjectAltName={','.join(f'DNS:{name}' for name in names)}"
        f" -keyout {key} -out $certificates/www.example.org.crt 2>/dev/null"
    )


OTHER_KEY = "openssl ecparam -name prime256v1 -genkey -noout > $certificates/www.example.org.key"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("echo reason; exit 3", "lego ended with status 3\nreason\n"),
        (make("www.example.org"), "the CA issued one for www.example.org\n"),
        (f"{make(*NAMES, key='/dev/null')}; {OTHER_KEY}", "its key is not that of its first certificate"),
        ("touch $certificates/www.example.org.crt $certificates/www.example.org.key", "of no use: openssl x509"),
        ("exit 0", "lego left no certificate"),
    ],
)
def test_what_is_of_no_use_replaces_nothing(
    text: str, said: str, client: Client, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "acme"
    acme.account(folder)
    (folder / "www.example.org.pem").write_text("old")
    client(text)
    assert acme.issue_due(configuration({"names": NAMES}), folder, NOW) == 1
    assert said in capsys.readouterr().err
    assert (folder / "www.example.org.pem").read_text() == "old"
    assert sorted(path.name for path in folder.iterdir()) == ["account.key", "thumbprint", "www.example.org.pem"]


def test_one_that_is_refused_does_not_keep_the_others_waiting(
    client: Client, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "acme"
    acme.account(folder)
    (folder / "gone.example.org.pem").write_text("old")
    client(make(*NAMES))
    config = configuration({"names": ["refused.example.org"]}, {"names": NAMES})
    assert acme.issue_due(config, folder, NOW) == 1
    said = capsys.readouterr()
    assert said.err.startswith("refused.example.org.pem: ")
    assert "www.example.org.pem: issued for www.example.org, example.org; there is none" in said.out
    assert "gone.example.org.pem: removed" in said.out
    assert acme.read(folder / "www.example.org.pem").names == set(NAMES)
    assert (folder / "www.example.org.pem").stat().st_mode & 0o777 == 0o600


def test_a_missing_client_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "acme"
    acme.account(folder)
    run = subprocess.run

    def only_openssl(command: list[str], **options: Any) -> Any:
        if command[0] == "lego":
            raise FileNotFoundError(command[0])
        return run(command, **options)

    monkeypatch.setattr(subprocess, "run", only_openssl)
    assert acme.issue_due(configuration({"names": NAMES}), folder, NOW) == 1
    assert "lego could not be run" in capsys.readouterr().err


def test_switched_off_it_leaves_no_failed_unit() -> None:
    """It may be switched off because nothing is issued; a cut run is completed as long as the timer's file is there."""
    found, stop, forget, remove = read_yaml(TOP / "roles" / "acme" / "tasks" / "off.yml")
    units = {f"phoenix-{name}.service" for name in ("acme", "certificates")}
    assert forget["ansible.builtin.command"]["argv"][:2] == ["systemctl", "reset-failed"]
    assert set(forget["ansible.builtin.command"]["argv"][2:]) == units
    assert units < {Path(path).name for path in remove["loop"]}
    assert remove["loop"][-1] == found["ansible.builtin.stat"]["path"]
    assert found["register"] in str(forget["when"])
    assert stop["units"] == {"name": ["phoenix-certificates.timer"], "running": False}

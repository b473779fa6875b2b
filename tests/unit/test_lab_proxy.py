"""How the operator's HTTP proxy reaches the clients of the lab and of its hosts."""

import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lab import proxy, settings

GATEWAY = "127.0.0.2"  # stands for this machine's address in the hosts' network
ACCOUNT = "user:word"
MIRROR = "http://mirror.example.org/debian"


@pytest.fixture(autouse=True)
def apt(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Remove all proxies but those a test sets, with an apt of one mirror; return the file of its configuration."""
    for name in ("http_proxy", "https_proxy", "no_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    configuration = tmp_path / "apt.conf"
    configuration.touch()
    for name, body in (("apt-config", f"cat {configuration}"), ("apt-get", f"echo {MIRROR}")):
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(f"#!/bin/sh\n{body}\n")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    return configuration


@pytest.fixture
def port() -> Iterator[int]:
    """Port of a proxy that listens on the gateway's address."""
    with socket.create_server((GATEWAY, 0)) as server:
        yield server.getsockname()[1]


def test_without_a_proxy_nothing_is_set() -> None:
    assert proxy.apt_options() == {}
    assert proxy.apt_conf(GATEWAY) == "// Made by the lab.\n"
    assert proxy.npmrc(GATEWAY) == proxy.pip_conf("https:", GATEWAY) == proxy.of_mirror(MIRROR) == ""


@pytest.mark.parametrize("spelling", [str.lower, str.upper])
def test_environments_proxy_reaches_every_client(
    spelling: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(spelling("http_proxy"), "http://proxy:3128")
    monkeypatch.setenv(spelling("https_proxy"), "http://proxy:3129")
    monkeypatch.setenv(spelling("no_proxy"), "registry.example.org,.internal")
    assert proxy.apt_options() == {
        "acquire::http::proxy": "http://proxy:3128",
        "acquire::https::proxy": "http://proxy:3129",
    }
    assert proxy.npmrc(GATEWAY) == (
        "proxy=http://proxy:3128\nhttps-proxy=http://proxy:3129\nnoproxy=registry.example.org,.internal\n"
    )
    assert proxy.pip_conf("https:", GATEWAY) == "proxy = http://proxy:3129\n"
    assert proxy.pip_conf("https://registry.example.org/simple", GATEWAY) == ""
    assert proxy.of_mirror(MIRROR) == "http://proxy:3128"


def test_apts_own_configuration_overrides_the_environment(apt: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://proxy:3128")
    apt.write_text(
        'APT "";\nAcquire::HTTP::Proxy "http://cache:3142";\nAcquire::http::Proxy::other.example "DIRECT";\n'
    )
    assert proxy.apt_options() == {
        "acquire::http::proxy": "http://cache:3142",
        "acquire::http::proxy::other.example": "DIRECT",
    }
    assert proxy.of_mirror(MIRROR) == "http://cache:3142"
    assert proxy.of_mirror("https://other.example/debian") == "http://cache:3142"
    assert proxy.of_mirror("http://other.example/debian") == ""


def test_no_proxy_overrides_apts_own_configuration(apt: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", ".example.org")
    apt.write_text('Acquire::http::Proxy "http://cache:3142";\n')
    assert 'acquire::http::proxy::mirror.example.org "DIRECT";\n' in proxy.apt_conf(GATEWAY)
    assert proxy.of_mirror(MIRROR) == ""


def test_apt_reads_what_is_written_for_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("http_proxy", "http://proxy:3128")
    monkeypatch.setenv("no_proxy", "mirror.example.org")
    written = tmp_path / "90lab"
    written.write_text(proxy.apt_conf(GATEWAY))
    seen = subprocess.run(
        ["/usr/bin/apt-config", "shell", "P", "Acquire::http::Proxy", "D", "Acquire::http::Proxy::mirror.example.org"],
        env={"APT_CONFIG": str(written)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert seen == "P='http://proxy:3128'\nD='DIRECT'\n"


@pytest.mark.parametrize("loopback", ["127.0.0.1", "localhost", "[::1]"])
def test_loopback_becomes_the_gateway(loopback: str, port: int) -> None:
    assert proxy.reachable(f"http://{ACCOUNT}@{loopback}:{port}/", GATEWAY) == f"http://{ACCOUNT}@{GATEWAY}:{port}/"
    assert proxy.reachable(f"{loopback}:{port}", GATEWAY) == f"http://{GATEWAY}:{port}"


def test_other_addresses_stay() -> None:
    assert proxy.reachable("http://192.0.2.1:3128", GATEWAY) == "http://192.0.2.1:3128"


def test_proxy_that_hosts_cannot_reach_is_reported_without_its_password(port: int) -> None:
    with pytest.raises(RuntimeError, match=rf"127\.0\.0\.1:{port}: let it listen on 127\.0\.0\.3:{port}") as error:
        proxy.reachable(f"http://{ACCOUNT}@127.0.0.1:{port}", "127.0.0.3")
    assert "word" not in str(error.value)


def test_control_is_given_the_proxy_for_npm_and_pip(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, port: int) -> None:
    npm = tmp_path / "bin/npm"
    npm.write_text("#!/bin/sh\necho https://npm.example.org/\n")
    npm.chmod(0o755)
    monkeypatch.setenv("https_proxy", f"http://localhost:{port}")
    monkeypatch.setenv("PIP_INDEX_URL", "https://pip.example.org/simple")
    files = {name: data.decode() for name, (data, _) in settings.registry_settings(GATEWAY).items()}
    assert "registry=https://npm.example.org/\n" in files["etc/npmrc"]
    assert f"https-proxy=http://{GATEWAY}:{port}\n" in files["etc/npmrc"]
    assert "index-url = https://pip.example.org/simple\n" in files["etc/pip.conf"]
    assert f"proxy = http://{GATEWAY}:{port}\n" in files["etc/pip.conf"]
    monkeypatch.setenv("no_proxy", "pip.example.org")
    assert "proxy" not in settings._pip_settings(GATEWAY)

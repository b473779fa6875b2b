"""What the wiring makes of results and of the autoscaler's status."""

import json
from typing import Any

import pytest

from phoenix.fleet import wiring
from phoenix.fleet.uri import url_error

Hosts = dict[str, dict[str, Any]]


def test_hosts_on_which_a_task_failed() -> None:
    hostvars: Hosts = {
        "good": {"r": {"rc": 0}},
        "skipped": {"r": {"skipped": True}},
        "dropped": {},
        "status": {"r": {"rc": 1, "stderr": "no answer\nafter 60 s"}},
        "dark": {"r": {"unreachable": True, "msg": "timed out"}},
        "failed": {"r": {"failed": True, "msg": "no template"}},
    }
    assert wiring.failed(list(hostvars), hostvars, "r") == ["dropped", "status", "dark", "failed"]
    assert wiring.reason(hostvars["status"]["r"]) == "no answer after 60 s"
    assert wiring.reason(hostvars["dark"]["r"]) == "timed out"
    assert wiring.reason({}) == "no reason given"


def test_control_gets_the_inventorys_values_and_derives_the_rest_itself() -> None:
    hostvars: Hosts = {
        "a": {"phoenix_address": "192.0.2.1", "x": 1, "ports": [3000], "secret": "s"},
        "b": {"phoenix_address": "192.0.2.2", "x": 4, "ports": [3001]},
    }
    written: Hosts = {
        "a": {**hostvars["a"], "ports": "{{ derived }}"},
        "b": hostvars["b"],
    }
    shared = {"x": 4, "ports": "{{ derived }}"}
    assert wiring.control_hostvars(["a", "b"], hostvars, written, ["x", "ports"], shared) == {
        "a": {"ansible_host": "192.0.2.1", "x": 1},
        "b": {"ansible_host": "192.0.2.2", "ports": [3001]},
    }


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        ({}, "https://www.example.org"),
        ({"nginx_https_port": 8443}, "https://www.example.org:8443"),
        ({"nginx_tls_enabled": "no", "nginx_http_port": "8080"}, "http://www.example.org:8080"),
        ({"nginx_tls_enabled": False, "nginx_server_names": []}, "http://192.0.2.11"),
        ({"nginx_server_names": [], "phoenix_address": "2001:db8::1"}, "https://[2001:db8::1]"),
        ({"nginx_server_names": [], "phoenix_floating_addresses": ["192.0.2.10", "192.0.2.9"]}, "https://192.0.2.10"),
    ],
)
def test_the_url_has_the_load_balancers_name_and_port(own: dict[str, Any], expected: str) -> None:
    usual: dict[str, Any] = {
        "phoenix_address": "192.0.2.11",
        "phoenix_floating_addresses": [],
        "nginx_server_names": ["www.example.org", "example.org"],
    }
    ports = {"nginx_tls_enabled": True, "nginx_http_port": 80, "nginx_https_port": 443}
    assert wiring.url("lb1", {"lb1": {**usual, **ports, **own}}) == expected
    assert url_error(expected) == ""


def test_the_site_is_asked_at_each_port_of_each_load_balancer() -> None:
    usual = {"nginx_tls_enabled": True, "nginx_http_port": 80, "nginx_https_port": 8443, "nginx_server_names": []}
    usual["nginx_proxy_protocol"] = False
    hostvars = {
        "lb1": {**usual, "phoenix_address": "192.0.2.11", "nginx_proxy_protocol": True},
        "lb2": {**usual, "phoenix_address": "2001:db8::1", "nginx_server_names": ["a.example"]},
    }
    assert [tuple(site.values()) for site in wiring.sites(["lb1", "lb2"], hostvars)] == [
        ("lb1", "192.0.2.11", "http://192.0.2.11/", True),
        ("lb1", "192.0.2.11", "https://192.0.2.11:8443/", True),
        ("lb2", "2001:db8::1", "http://a.example/", False),
        ("lb2", "2001:db8::1", "https://a.example:8443/", False),
    ]


def test_the_site_is_asked_at_each_floating_address() -> None:
    usual = {"nginx_tls_enabled": False, "nginx_http_port": 80, "nginx_server_names": [], "nginx_proxy_protocol": True}
    hostvars = {"lb1": {**usual, "phoenix_address": "192.0.2.11"}}
    assert [tuple(site.values()) for site in wiring.sites(["lb1"], hostvars, ["192.0.2.10", "2001:db8::9"])] == [
        ("lb1", "192.0.2.11", "http://192.0.2.11/", True),
        ("floating1", "192.0.2.10", "http://192.0.2.10/", True),
        ("floating2", "2001:db8::9", "http://[2001:db8::9]/", True),
    ]


def test_the_sites_own_address_is_asked_where_it_is_no_balancers() -> None:
    usual = {"nginx_tls_enabled": True, "nginx_http_port": 80, "nginx_https_port": 443, "nginx_server_names": []}
    hostvars = {"lb1": {**usual, "nginx_proxy_protocol": False, "phoenix_address": "192.0.2.11"}}
    assert len(wiring.sites(["lb1"], hostvars, [], "https://192.0.2.11")) == 2
    assert len(wiring.sites(["lb1"], hostvars, ["192.0.2.10"], "https://192.0.2.10")) == 4
    public = wiring.sites(["lb1"], hostvars, [], "https://www.example.org:8443")[-1]
    url = "https://www.example.org:8443/"
    assert public == {"host": "public", "address": "www.example.org", "url": url, "proxy_protocol": False}


def test_the_certificates_are_those_of_the_sites_with_tls() -> None:
    usual = {"nginx_tls_enabled": True, "nginx_http_port": 80, "nginx_https_port": 443, "nginx_server_names": []}
    hostvars = {"lb1": {**usual, "nginx_proxy_protocol": True, "phoenix_address": "192.0.2.11"}}
    sites = wiring.sites(["lb1"], hostvars, [], "https://www.example.org")
    assert [tuple(certificate.values()) for certificate in wiring.certificates(sites)] == [
        ("lb1", "192.0.2.11", 443, "192.0.2.11", True),
        ("public", "www.example.org", 443, "www.example.org", False),
    ]


def test_jenkins_behind_the_load_balancers() -> None:
    hostvars = {"j": {"phoenix_address": "192.0.2.61", "jenkins_prefix": "/ci", "jenkins_port": "8081"}}
    assert wiring.private_services(["j"], hostvars, ["192.0.2.0/24"]) == [
        {"path": "/ci", "address": "192.0.2.61", "port": 8081, "sources": ["192.0.2.0/24"]}
    ]


def test_the_autoscaler_for_people() -> None:
    decision = {"time": "2026-11-24T12:00:00.123+00:00", "action": "out", "count": 6, "reason": "more requests"}
    held = {**decision, "action": "hold", "repeats": 3, "until": "2026-11-24T12:05:00.123+00:00"}
    lines = wiring.scaling_lines(
        {
            "age": 50,
            "capacity": 2,
            "desired": 6,
            "requests_per_second": 20.5,
            "panic_requests_per_second": 60.0,
            "open_requests": 340,
            "acting": 6,
            "explanation": "The capacity is 2 for 20.5 requests/s.",
            "minimum": 2,
            "minimum_by": "the schedule '0 8 * * *'",
            "warning": "autoscaler_maximum is 20",
            "frozen": "frozen: a deploy",
            "silent": ["192.0.2.11"],
            "left_out": {"app2": "no answer"},
            "decisions": [decision, held],
        }
    )
    text = "\n".join(lines)
    assert "silent for 50 s" in text
    assert "capacity 2, desired 6, 20.5/s in 60 s, 60.0/s in 6 s, 340 open requests, scaling to 6\n" in text
    assert "\n  The capacity is 2 for 20.5 requests/s.\n  minimum 2 by the schedule '0 8 * * *'\n" in text
    assert "\n  WARNING: autoscaler_maximum is 20\n" in text
    assert "\n  no datagrams from 192.0.2.11\n" in text
    assert "left out: app2: no answer" in text
    assert "2026-11-24T12:00:00 out    6  more requests\n" in text
    assert "again 3 times, until 12:05:00" in text


def test_what_was_started_and_is_healthy_is_in_rotation_again() -> None:
    started = '{"changed": [{"action": "start", "port": 3001}]}'
    hostvars: Hosts = {
        "a": {"phoenix_address": "192.0.2.1", "phoenix_started": {"rc": 0, "stdout": started}},
        "b": {"phoenix_address": "192.0.2.2", "phoenix_started": {"rc": 1, "stdout": started}},
        "c": {"phoenix_address": "192.0.2.3"},
    }
    drained = [f"192.0.2.{host}:3001" for host in (1, 2, 3)]
    assert wiring.still_drained(drained, list(hostvars), hostvars, "phoenix_started") == drained[1:]
    assert wiring.reasons(["b"], hostvars, "phoenix_started") == {"b": "no reason given"}
    looped = {"results": [{"stderr": ""}, {"stderr": "no space"}], "msg": "All items completed"}
    assert wiring.reason(looped) == "no space"


def test_a_new_host_begins_with_the_configuration_of_one_like_it() -> None:
    """Not with that of a host with other settings, and not where nothing changes."""
    given = {"app1": "other", "app2": "new", "app3": "new", "app4": ""}
    hostvars = {host: {"phoenix_configuration": name} for host, name in given.items()}
    recorded = {"app1": "old1", "app2": "old2"}
    assert wiring.donor(list(given), hostvars, "app3", recorded) == {"host": "app2", "name": "old2"}
    assert wiring.donor(list(given), hostvars, "app2", recorded) == {}
    assert wiring.donor(list(given), hostvars, "app4", recorded) == {}
    assert wiring.donor(list(given), hostvars, "app3", {"app1": "old1", "app2": "new"}) == {}


def test_a_load_balancer_is_asked_by_the_sites_name_or_by_its_own() -> None:
    """Without names each serves by its own, and the site's address may be another one's."""

    def facts(number: int) -> dict[str, Any]:
        addresses = {"all_ipv4_addresses": [f"192.0.2.{number}"], "all_ipv6_addresses": [f"2001:db8::{number}"]}
        return {"ansible_facts": {"hostname": f"lb{number}", "fqdn": f"lb{number}.example.org", **addresses}}

    usual: dict[str, Any] = {"nginx_server_names": [], "phoenix_floating_addresses": ["192.0.2.10"]}
    hostvars: dict[str, dict[str, Any]] = {
        f"lb{number}": {**usual, "phoenix_address": f"192.0.2.{number}", **facts(number)} for number in (11, 12)
    }

    def asked(url: str, **own: Any) -> list[str]:
        known = {host: {**variables, **own} for host, variables in hostvars.items()}
        return [wiring.asked_name(host, known, list(known), url) for host in known]

    assert asked("https://192.0.2.10:8443") == ["192.0.2.10"] * 2
    assert asked("https://192.0.2.11") == ["192.0.2.11", "localhost"]
    assert asked("https://[2001:db8::12]") == ["localhost", "[2001:db8::12]"]
    assert asked("https://lb11.example.org") == ["lb11.example.org", "localhost"]
    assert asked("https://www.example.org") == ["www.example.org"] * 2, "which neither serves"
    assert asked("https://192.0.2.11", nginx_server_names=["192.0.2.11"]) == ["192.0.2.11"] * 2
    assert asked("https://192.0.2.11", ansible_facts={}) == ["192.0.2.11", "localhost"]


def test_what_a_load_balancer_answers_after_it_was_configured() -> None:
    good, skipped = {"status": 405}, {"skipped": True}
    assert wiring.balancer_error(good, {"status": 302}, "a") == wiring.balancer_error(good, skipped, "a") == ""
    assert "answers 421 to requests for a," in wiring.balancer_error({"status": 421, "failed": True}, skipped, "a")
    assert "does not answer requests for a: refused." in wiring.balancer_error(
        {"status": -1, "failed": True, "msg": "refused"}, skipped, "a"
    )
    assert "now there is status 504." in wiring.balancer_error(good, {"status": 504, "failed": True}, "a")
    assert "now there is late." in wiring.balancer_error(good, {"status": -1, "failed": True, "msg": "late"}, "a")

    def announced(closed: int, answered: int) -> str:
        seen = json.dumps({"closed": closed, "last": "192.0.2.9", "answered": answered})
        return wiring.balancer_error(good, skipped, "a", seen)

    assert announced(0, 0) == announced(0, 100) == announced(3, 100) == ""
    assert "closed 3 connections of proxies in front, the last from 192.0.2.9," in announced(3, 0)
    assert "Have them do so, or set nginx_proxy_protocol to false" in announced(3, 3)

"""A pair of load balancers with a floating address: either may be lost or stopped, under load.

That its address is moved on purpose is a drill (test_drills.py). Clients here send a request that failed once more, as
one that was in flight on a lost host must fail.
"""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from tests.harness import plays
from tests.harness.alarms import messages
from tests.harness.hosts import first_of
from tests.harness.load import RATE, assert_none_failed, load
from tests.harness.pair import PATIENT, Pair
from tests.harness.waiting import wait_for


@pytest.fixture(scope="module")
def pair(inventory: str, base_url: str) -> Pair:
    return Pair(inventory, base_url)


def test_both_serve_the_same_certificate(pair: Pair) -> None:
    (seen,) = pair.certificates("-fingerprint", "-ext subjectAltName")
    assert f"IP Address:{pair.address}" in seen


def test_a_stopped_nginx_is_survived(client: Any, base_url: str, pair: Pair) -> None:
    holder, other = pair.roles()
    with load(client, base_url, RATE, *PATIENT) as result:
        pair.hosts[holder].check_output("systemctl stop nginx")
        assert pair.holds(other)
        pair.hosts[holder].check_output("systemctl start nginx")
    assert_none_failed(result)
    assert pair.roles() == (other, holder)


def test_a_hung_nginx_is_survived(client: Any, base_url: str, pair: Pair) -> None:
    holder, other = pair.roles()
    host = pair.hosts[holder]
    words = " ".join(host.check_output("pgrep -x nginx").split())
    try:
        host.check_output(f"kill -STOP {words}")
        took = wait_for(lambda: pair.holds(other), 30, f"{other} has the address")
    finally:
        host.check_output(f"kill -CONT {words}")
    print(f"nginx hung to seen on the other: {took:.1f} s")


def test_the_address_is_not_moved_to_one_that_could_not_serve(inventory: str, pair: Pair) -> None:
    holder, other = pair.roles()
    pair.hosts[other].check_output("systemctl stop nginx")
    try:
        done = plays.run(inventory, "switch", phoenix_master=other)
    finally:
        pair.hosts[other].check_output("systemctl start nginx")
    assert done.returncode != 0
    assert f"{other} could not serve" in done.stdout
    assert pair.holds(holder)


def test_two_masters_are_reported_and_become_one(client: Any, base_url: str, inventory: str, pair: Pair) -> None:
    receiver = first_of("receivers", inventory)
    pair.roles()
    start = time.time()

    def reported() -> int:
        return len(messages(receiver, start, "phoenix_floating_two"))

    with load(client, base_url, RATE, *PATIENT) as result:
        with pair.cut():
            wait_for(lambda: len(pair.holders()) == len(pair.hosts), 30, "each has the address")
            # Longer after a restart of one of them, until its agent is connected again.
            wait_for(lambda: reported() > 0, 180, "the message")
        took = wait_for(lambda: len(pair.holders()) == 1, 30, "one has the address")
    print(f"healed to one master: {took:.1f} s")
    assert_none_failed(result)


def test_the_rules_let_only_the_peers_speak(pair: Pair) -> None:
    for host in pair.hosts.values():
        floating = json.loads(host.check_output("cat /etc/phoenix/floating.json"))["addresses"]
        rules = [line for line in host.check_output("nft list chain inet phoenix input").splitlines() if "vrrp" in line]
        # Of IPv4 the peer's address, of IPv6 its other one.
        assert len(rules) == len({":" in address for address in floating})
        assert all("saddr" in rule and ("112" in rule or "vrrp accept" in rule) for rule in rules), rules

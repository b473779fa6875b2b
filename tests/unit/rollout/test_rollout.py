"""The order of a roll-out, and what is held against a canary: phoenix.fleet/rollout.py."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phoenix.rollout import latencies, order
from phoenix.rollout import plan as rollout
from tests.harness.plays import PLAYBOOK
from tests.unit.shared import TOP, run_ansible

HOSTS = [{"name": "app1", "address": "192.0.2.21"}, {"name": "app2", "address": "192.0.2.22"}]


def instance(port: int, release: str = "old", active: bool = True, stale: bool = True) -> dict[str, Any]:
    return {"port": port, "active": active, "release": release, "stale": stale}


def test_the_canary_first_the_spares_last() -> None:
    statuses = {name: {"instances": [instance(3000), instance(3001), instance(3900)]} for name in ("app1", "app2")}
    plan = rollout.plan(statuses, HOSTS, "new", [3900])
    assert plan["canary"] == {"parts": [{"host": "app1", "ports": [3000]}], "servers": ["192.0.2.21:3000"]}
    assert [step["parts"] for step in plan["steps"]] == [
        [{"host": "app2", "ports": [3000]}],
        [{"host": "app1", "ports": [3001]}],
        [{"host": "app2", "ports": [3001]}],
        [{"host": "app1", "ports": [3900]}],
        [{"host": "app2", "ports": [3900]}],
    ]
    assert plan["others"] == ["192.0.2.22:3000", "192.0.2.21:3001", "192.0.2.22:3001"]
    assert plan["already"] == []


def test_where_no_ordinary_instance_runs_a_spare_is_the_canary() -> None:
    spares = {"instances": [{**instance(3000), "active": False}, instance(3900)]}
    plan = rollout.plan(dict.fromkeys(("app1", "app2"), spares), HOSTS, "new", [3900], 0.5)
    assert plan["canary"]["parts"] == [{"host": "app1", "ports": [3900]}]
    assert [step["parts"] for step in plan["steps"]] == [[{"host": "app2", "ports": [3900]}]]
    assert plan["others"] == []
    # Nor where the spares alone are left to be switched, as after a cut.
    switched = {"instances": [instance(3000, "new", stale=False), instance(3900)]}
    assert rollout.plan({"app1": switched}, HOSTS, "new", [3900], 0.5)["canary"] is None


def test_with_a_share_the_spares_are_switched_beside_the_steps_and_never_all() -> None:
    hosts = [*HOSTS, {"name": "app3", "address": "192.0.2.23"}]
    statuses = {host["name"]: {"instances": [instance(3000), instance(3900)]} for host in hosts}
    plan = rollout.plan(statuses, hosts, "new", [3900], 0.25)
    assert [step["servers"] for step in plan["steps"]] == [
        ["192.0.2.22:3000", "192.0.2.21:3900", "192.0.2.22:3900"],
        ["192.0.2.23:3000", "192.0.2.23:3900"],
    ]
    spares = {"instances": [instance(3000, "new", stale=False), instance(3900)]}
    plan = rollout.plan(dict.fromkeys(("app1", "app2"), spares), HOSTS, "new", [3900], 0.5)
    assert [step["servers"] for step in plan["steps"]] == [["192.0.2.21:3900"], ["192.0.2.22:3900"]]


def test_an_interrupted_roll_out_continues_where_it_stopped() -> None:
    statuses = {
        "app1": {"instances": [instance(3000, "new", stale=False), instance(3001, "new", stale=True)]},
        "app2": {"instances": [instance(3000), instance(3001, active=False)]},
    }
    plan = rollout.plan(statuses, HOSTS, "new")
    assert plan["already"] == ["192.0.2.21:3000"]
    assert plan["canary"]["servers"] == ["192.0.2.21:3001"]
    assert plan["steps"] == [{"parts": [{"host": "app2", "ports": [3000]}], "servers": ["192.0.2.22:3000"]}]


def test_nothing_to_do() -> None:
    statuses = {"app1": {"instances": [instance(3000, "new", stale=False)]}}
    plan = rollout.plan(statuses, HOSTS, "new")
    assert plan["canary"] is None
    assert plan["steps"] == []


@given(
    st.lists(st.lists(st.integers(3000, 3008), unique=True, max_size=8), min_size=2, max_size=2),
    st.floats(0, 1),
)
def test_every_instance_once_and_never_more_than_half(ports: list[list[int]], share: float) -> None:
    statuses = {
        host["name"]: {"instances": [instance(port) for port in own]} for host, own in zip(HOSTS, ports, strict=True)
    }
    plan = rollout.plan(statuses, HOSTS, "new", [], share)
    steps = [plan["canary"], *plan["steps"]] if plan["canary"] else plan["steps"]
    seen = [(part["host"], port) for step in steps for part in step["parts"] for port in part["ports"]]
    assert sorted(seen) == sorted((host["name"], port) for host, own in zip(HOSTS, ports, strict=True) for port in own)
    total = sum(map(len, ports))
    assert all(len(step["servers"]) <= max(1, min(int(total * share), total // 2)) for step in steps)


def test_twenty_hosts_with_four_instances_on_paper() -> None:
    """In minutes with a share, where one after another took hours; no host starts more than two at once."""
    hosts = [{"name": f"app{n}", "address": f"192.0.2.{n}"} for n in range(1, 21)]
    ports = [3000, 3001, 3002, 3003, 3900]
    statuses = {host["name"]: {"instances": [instance(port) for port in ports]} for host in hosts}
    batched = rollout.plan(statuses, hosts, "new", [3900], 0.25)
    assert max(len(part["ports"]) for step in batched["steps"] for part in step["parts"]) <= 2
    assert order.estimate(batched, 65, 6, 20).startswith("100 instances in 5 steps: at most 6 min")
    single = rollout.plan(statuses, hosts, "new", [3900], 0)
    assert order.estimate(single, 65, 6, 20).startswith("100 instances in 100 steps: at most 119 min")


def counts(requests: int, errors: int = 0, bucket: int = 5) -> dict[str, Any]:
    return {"requests": requests, "errors": errors, "kinds": {"page": {str(bucket): requests - errors}}}


def mixed(slow: int, fast: int) -> dict[str, Any]:
    """Answers of 1 s, and of 3 ms."""
    return {"requests": slow + fast, "errors": 0, "kinds": {"page": {"31": slow, "5": fast}}}


def judge(own: dict[str, Any], other: dict[str, Any], memory: dict[str, Any] | None = None, **more: Any) -> list[str]:
    observations = [{"servers": {"c": own, "o": other}}]
    faults: list[str] = rollout.judge(observations, ["c"], ["o"], memory or {}, **more)["faults"]
    return faults


@pytest.mark.parametrize(
    ("own", "other", "fault"),
    [
        (counts(1000), counts(1000), ""),
        (counts(0), counts(0), "no request reached it"),
        (counts(20, 1), counts(20), ""),  # by chance
        (counts(20, 20), counts(0), "20 of its 20"),  # no others to compare with
        ({**counts(40), "asked": 40}, counts(1000), "answered 0 requests while each of the others answered 1000"),
        (counts(1000, 9), counts(1000), ""),
        (counts(1000, 20), counts(1000), "20 of its 1000 answers were 5xx"),
        (counts(1000, 300), counts(1000, 300), ""),  # the database is away: no fault of the canary's
        (counts(10, 10), counts(1000), "100.0%"),
        (counts(1000, bucket=28), counts(1000), "median"),
        (counts(4, bucket=28), counts(90), ""),  # too few to say
        (counts(10, bucket=28), counts(90), "median"),
        (counts(19, bucket=28), counts(950), "median"),  # few, as its requests stay open, and all are slow
        (mixed(10, 9), mixed(300, 600), ""),  # slow by chance, as many of the others are
        (counts(1, bucket=28), counts(1000), "answered 1 requests while each of the others answered 1000"),
    ],
)
def test_errors_and_latency_beside_the_others(own: dict[str, Any], other: dict[str, Any], fault: str) -> None:
    faults = judge(own, other)
    assert bool(faults) == bool(fault), faults
    assert fault in "; ".join(faults)


@pytest.mark.parametrize(
    ("own", "memory", "again"),
    [
        (mixed(60, 940), {}, True),  # a pause of half a second in ten, while clients went on
        (mixed(40, 960), {}, False),  # no fault at all
        (mixed(600, 400), {}, False),
        ({**mixed(60, 940), "errors": 300}, {}, False),
        (mixed(60, 940), {"ended": 1}, False),
    ],
)
def test_what_only_a_part_of_the_answers_says_is_seen_again(
    own: dict[str, Any], memory: dict[str, Any], again: bool
) -> None:
    observation = {"servers": {"c": own, "o": counts(1000)}}
    found = rollout.judge([observation], ["c"], ["o"], memory)
    assert found["again"] is again and bool(found["faults"]) is (own != mixed(40, 960))
    # A load balancer has taken it out already.
    assert not rollout.judge([observation, {"ended": True}], ["c"], ["o"], memory)["again"]


def test_the_second_look_decides(tmp_path: Path) -> None:
    """The role's tasks, with verdicts in place of observations; each case is the verdicts, and whether it holds."""
    tail, slow = (["its 95th percentile"], True), (["its median"], False)
    good: tuple[list[str], bool] = ([], False)
    cases = [([good], True), ([slow], False), ([tail, good], True), ([tail, tail], False), ([tail, slow], False)]
    verdicts = [[{"faults": faults, "again": again, "seen": ""} for faults, again in looks] for looks, _ in cases]
    (tmp_path / "watch.yml").write_text((TOP / "roles" / "deploy" / "tasks" / "watch.yml").read_text())
    look = {
        "__deploy_verdict": "{{ (verdicts[case | int])[looks | length] }}",
        "looks": "{{ looks + [1] }}",
    }
    (tmp_path / "observe.yml").write_text(json.dumps([{"ansible.builtin.set_fact": look}]))
    note = {"seen": "{{ seen + [[looks | length, holds | bool]] }}"}
    tasks = [
        {"ansible.builtin.set_fact": {"looks": [], "holds": True}},
        {
            "block": [{"ansible.builtin.include_tasks": "watch.yml"}],
            "rescue": [{"ansible.builtin.set_fact": {"holds": False}}],
        },
        {"ansible.builtin.set_fact": note},
    ]
    (tmp_path / "case.yml").write_text(json.dumps(tasks))
    play = {
        "hosts": "localhost",
        "gather_facts": False,
        "become": False,
        "connection": "local",
        "vars": {"verdicts": verdicts, "__deploy_step": {"servers": ["192.0.2.21:3000"]}},
        "tasks": [
            {"ansible.builtin.set_fact": {"seen": []}},
            *({"ansible.builtin.include_tasks": "case.yml", "vars": {"case": n}} for n in range(len(cases))),
            {"ansible.builtin.copy": {"content": "{{ seen | to_json }}", "dest": str(tmp_path / "seen")}},
        ],
    }
    (tmp_path / "play.json").write_text(json.dumps([play]))
    done = run_ansible(PLAYBOOK, "-i", "localhost,", tmp_path / "play.json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads((tmp_path / "seen").read_text()) == [[len(looks), holds] for looks, holds in cases]


def kinds(**buckets: dict[str, int]) -> dict[str, Any]:
    """Answers by kind and bucket: 5 is 3 ms, 21 is 0.1 s, 31 is 1 s, 34 is 2 s."""
    return {"requests": sum(sum(one.values()) for one in buckets.values()), "errors": 0, "kinds": buckets}


@pytest.mark.parametrize(
    ("own", "faults"),
    [
        # Clients with affinity stay with the others; what comes to it are long polls.
        (kinds(poll={"34": 30}), 0),
        (kinds(poll={"34": 30}, page={"5": 30}), 0),
        (kinds(poll={"34": 19}), 0),
        (kinds(poll={"34": 30}, page={"31": 40}), 2),
        (kinds(page={"31": 40}), 2),
        (kinds(page={"31": 10}), 1),
        # Slow pages do not hide behind polls.
        (kinds(poll={"34": 10}, page={"5": 50, "38": 40}), 1),
        (kinds(poll={"34": 60}, page={"38": 40}), 1),
        (kinds(poll={"34": 60}, page={"38": 61}), 2),
        # Of which the others got none: all that they answered stands.
        (kinds(other={"34": 30}), 2),
    ],
)
def test_latency_is_compared_with_the_others_answers_to_such_requests(own: dict[str, Any], faults: int) -> None:
    found = judge(own, kinds(poll={"34": 40}, page={"5": 900}), policy={"even": False})
    assert len(found) == faults, found


@pytest.mark.parametrize(("beside", "faults"), [(5, 0), (40, 2)])
def test_a_few_answers_of_the_others_prove_little(beside: int, faults: int) -> None:
    """Of the canary's reports 60 % take 2 s, and of the others' none, of so many."""
    found = judge(
        kinds(report={"5": 2, "34": 3}, page={"5": 3}) if faults == 0 else kinds(report={"5": 10, "34": 15}),
        kinds(report={"5": beside}, page={"5": 900}),
        policy={"even": False},
    )
    assert len(found) == faults, found


@given(seed=st.integers(0, 10_000))
@settings(max_examples=60, deadline=None)
def test_a_canary_like_the_others_is_hardly_ever_refused(seed: int) -> None:
    """Thirty in a hundred reports take 2 s on every instance; the canary got 40 of them, the others few."""
    dice = random.Random(seed)

    def reports(count: int) -> dict[str, int]:
        slow = sum(dice.random() < 0.3 for _ in range(count))
        return {"5": count - slow, "34": slow}

    refused = sum(bool(judge(kinds(report=reports(40)), kinds(report=reports(10), page={"5": 900}))) for _ in range(40))
    assert refused <= 4


def test_a_package_of_before_counts_all_requests_together() -> None:
    old = {"requests": 40, "errors": 0, "buckets": {"31": 40}}
    assert len(judge(old, {"requests": 900, "errors": 0, "buckets": {"5": 900}})) == 2


def test_with_affinity_by_address_an_instance_without_requests_need_not_hang() -> None:
    idle = {**counts(40), "asked": 40}
    assert judge(idle, counts(1000), policy={"even": False}) == []
    assert "answered 0 requests" in judge(idle, counts(1000), policy={"even": True})[0]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (("GET", "/items/17", 200), ("GET", "/items/4711", 204), True),
        (("GET", "/a?x=1&y=2", 200), ("GET", "/a?y=&x=7", 200), True),
        (("GET", "/poll?1700000000001", 200), ("GET", "/poll?1700000000002", 200), True),
        (("GET", "/u/6fa459ea-ee8a-3ca4-894e-db77e160355e/b", 200), ("GET", "/u/0/b", 200), True),
        (("GET", "/a?x=1", 200), ("GET", "/a", 200), False),
        (("GET", "/a", 200), ("POST", "/a", 200), False),
        (("GET", "/a", 200), ("GET", "/a", 404), False),
        (("GET", "/v1/report", 200), ("GET", "/v2/report", 200), False),
        (("GET", "/items/17", 200), ("GET", "/users/17", 200), False),
    ],
)
def test_requests_of_one_kind_differ_in_identifiers_and_values(
    one: tuple[str, str, int], other: tuple[str, str, int], same: bool
) -> None:
    assert (latencies.kind(*one) == latencies.kind(*other)) is same
    assert "items" not in latencies.kind(*one)


@pytest.mark.parametrize("uri", ["", "?", "/\udc80\x00", "//[::1", "/?" + "a&" * 600, "/" * 1024, "/%ED%A0%80=&=&&;"])
def test_any_target_has_a_kind(uri: str) -> None:
    assert latencies.kind("GET", uri, 200)


def test_the_observations_of_all_load_balancers_count() -> None:
    observations = [{"servers": {"c": counts(50, 1)}}, {"servers": {"c": counts(50, 9), "o": counts(100)}}]
    seen = rollout.judge(observations, ["c"], ["o"], {})
    assert "10 of its 100 answers" in seen["faults"][0]
    assert seen["seen"].startswith("100 requests, 10 failed")


def test_without_others_the_limit_counts() -> None:
    observations = [{"servers": {"c": counts(1000, bucket=36)}}]
    assert "no others to compare with" in rollout.judge(observations, ["c"], [], {})["faults"][0]


def memory(*megabytes: float, ended: int = 0) -> dict[str, Any]:
    return {"samples": [[float(second), mb] for second, mb in enumerate(megabytes)], "ended": ended, "max_mb": 256}


def test_memory() -> None:
    # Seen at 100 requests a second: a fresh process warms up within 10 s, then grows slowly until V8 collects.
    warm = memory(6, 55, 55, 55, 57, 65, 74, 82, 83, 83, 84, 85, 85, 86, 86, 86, 86, 87, 87, 87, 88)
    good = counts(1000)
    assert judge(good, good, warm, others_mb=[55]) == []
    assert "grows by 5.0 MB a second" in judge(good, good, memory(*[60 + 5 * n for n in range(20)]), others_mb=[100])[0]
    assert "takes 155 MB" in judge(good, good, memory(*[60 + 5 * n for n in range(20)]), others_mb=[60])[0]
    # A short look tells nothing about long after it: 2 MB a second for 10 s, right after the start.
    assert judge(good, good, memory(*[40 + 2 * n for n in range(10)])) == []
    # Seen with uploads: 7 MB a second, until V8 collects the buffers.
    uploads = memory(30, 30, 30, 31, 31, 31, 38, 45, 52, 59, 66)
    assert judge(good, good, uploads) == []
    assert "from 110 MB to the limit" in judge(good, good, memory(*[30, *(38 + 8 * n for n in range(10))]))[0]
    assert "to the limit" in judge(good, good, memory(*[192 + 6 * n for n in range(11)]))[0]
    assert "ended 2 times" in judge(good, good, memory(60, 60, ended=2))[0]
    assert judge(good, good, {**memory(*[60 + 5 * n for n in range(20)]), "max_mb": 0}) == []


def test_quantile_is_the_end_of_its_bucket() -> None:
    assert latencies.quantile({}, 0.5) == 0
    assert latencies.quantile({0: 99, 10: 1}, 0.5) == pytest.approx(0.001)
    assert latencies.quantile({0: 50, 10: 50}, 0.95) == pytest.approx(0.001 * 1.25**10)

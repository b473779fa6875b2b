"""The list of plugins, the configuration, and what a pipeline's key may ask for."""

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

from phoenix.build import plugins
from tests.unit.shared import TOP, read_yaml, trusted


def plugin(name: str, version: str, **needs: str) -> dict[str, Any]:
    return {"name": name, "version": version, "needs": {key.replace("_", "-"): one for key, one in needs.items()}}


@pytest.mark.parametrize(
    ("listed", "fault"),
    [
        ([plugin("git", "5.2", scm_api="2.9"), plugin("scm-api", "2.10")], ""),
        ([plugin("git", "5.2", scm_api="2.9")], "git 5.2 needs scm-api 2.9, which is not in the list"),
        ([plugin("git", "5.2", scm_api="2.10"), plugin("scm-api", "2.9")], "but 2.9 is listed"),
        ([plugin("a", "1", b="703.ve58"), plugin("b", "703.ve5a")], ""),
        ([plugin("a", "1", b="1.0"), plugin("b", "1.0-beta")], "but 1.0-beta is listed"),
        ([plugin("a", "1"), plugin("a", "1")], "a is named more than once"),
    ],
)
def test_the_list_is_closed(listed: list[dict[str, Any]], fault: str) -> None:
    found = "; ".join(plugins.unmet(listed))
    assert bool(found) == bool(fault), found
    assert fault in found


def test_the_lock_names_the_closure_and_only_it() -> None:
    def entry(version: str, *needs: tuple[str, str, bool]) -> dict[str, Any]:
        dependencies = [{"name": name, "version": least, "optional": may} for name, least, may in needs]
        return {"version": version, "sha256": "q" * 43 + "=", "dependencies": dependencies}

    center = {
        "plugins": {
            "a": entry("1", ("b", "2", False), ("x", "1", True)),
            "b": entry("2.1", ("c", "3", False)),
            "c": entry("3"),
            "x": entry("1"),
            "other": entry("1"),
        }
    }
    listed = yaml.safe_load(plugins.lock(center, ["a"]))["jenkins_plugins"]
    assert [one["name"] for one in listed] == ["a", "b", "c"]
    assert all(one["checksum"].startswith("sha256:") and len(one["checksum"]) == 71 for one in listed)
    assert plugins.unmet(listed) == []
    with pytest.raises(KeyError):
        plugins.closure(center["plugins"], ["absent"])


def configuration(**more: Any) -> dict[str, Any]:
    role = TOP / "roles" / "jenkins"
    samples = read_yaml(TOP / "tests" / "unit" / "sample_vars.yml")
    variables = {
        **read_yaml(role / "defaults" / "main.yml"),
        **{name: trusted(value) for name, value in read_yaml(role / "vars" / "main.yml").items()},
        **samples["common"],
        **samples["roles"]["jenkins"],
        **more,
    }
    text = (role / "templates" / "jenkins.yaml.j2").read_text(encoding="utf-8")
    rendered = Templar(loader=DataLoader(), variables=variables).template(trust_as_template(text))
    return dict(yaml.safe_load(str(rendered)))


@pytest.mark.parametrize("users", [[], [{"name": 'a "b": c', "password": "x"}, {"name": "ann", "password": "y"}]])
def test_the_configuration_fits_its_schema(users: list[dict[str, str]]) -> None:
    schema = json.loads(Path(__file__).with_name("jcasc.schema.json").read_text(encoding="utf-8"))
    seen = configuration(jenkins_users=users, jenkins_environment={"A": 1})
    jsonschema.validate(seen, schema)
    assert seen["jenkins"]["numExecutors"] == 0
    names = [one["user"]["name"] for one in seen["jenkins"]["authorizationStrategy"]["globalMatrix"]["entries"]]
    assert names == ["admin", *(user["name"] for user in users)], "somebody else may do something"
    assert not {"x", "y"} & {one["password"] for one in seen["jenkins"]["securityRealm"]["local"]["users"]}


def test_a_mistyped_configuration_does_not_fit() -> None:
    schema = json.loads(Path(__file__).with_name("jcasc.schema.json").read_text(encoding="utf-8"))
    seen = configuration()
    seen["jenkins"]["numExecutor"] = 0
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(seen, schema)


SSH = {"jenkins_repository_ssh_key": "-----BEGIN", "jenkins_repository_host_keys": ["git.example.org ssh-ed25519 AAAA"]}
TOKEN = {"jenkins_repository_user": "reader", "jenkins_repository_token": "of-the-vault"}


@pytest.mark.parametrize(
    ("settings", "kind"), [({}, None), (SSH, "basicSSHUserPrivateKey"), (TOKEN, "usernamePassword")]
)
def test_a_private_repository_has_a_credential_of_its_own(settings: dict[str, Any], kind: str | None) -> None:
    schema = json.loads(Path(__file__).with_name("jcasc.schema.json").read_text(encoding="utf-8"))
    seen = configuration(**settings)
    jsonschema.validate(seen, schema)
    listed = seen["credentials"]["system"]["domainCredentials"][0]["credentials"]
    found = [key for one in listed for key, value in one.items() if value["id"] == "repository"]
    assert found == ([kind] if kind else [])
    # By name alone: the secret is the unit's.
    assert "of-the-vault" not in json.dumps(seen)
    assert "BEGIN" not in json.dumps(seen)
    (environment,) = seen["jenkins"]["globalNodeProperties"]
    values = {one["key"]: one["value"] for one in environment["envVars"]["env"]}
    assert values["PHOENIX_CREDENTIALS"] == ("repository" if kind else "")
    assert ("security" in seen) == (settings is SSH)


def test_what_was_pushed_runs_where_there_is_no_key_and_no_credential() -> None:
    nodes = {one["permanent"]["labelString"]: one["permanent"] for one in configuration()["jenkins"]["nodes"]}
    assert set(nodes) == {"phoenix", "phoenix-deliver"}
    assert len({one["remoteFS"] for one in nodes.values()}) == 2
    pipeline = (TOP / "Jenkinsfile").read_text(encoding="utf-8")
    assert pipeline.count("agent none") == 1
    checks = pipeline.partition("stage('Check')")[2].partition("stage('Deliver')")[0]
    assert re.findall(r"label '([a-z-]+)'", checks) == ["phoenix"]
    assert re.findall(r"phoenix-stage (\w+)", checks) == ["lint", "test"]
    rest = pipeline.replace(checks, "")
    assert set(re.findall(r"(?:label |node\()'([a-z-]+)'", rest)) == {"phoenix-deliver"}
    assert "PHOENIX_CREDENTIALS" not in checks


def block(code: str, head: str) -> str:
    """What is between the braces after a head, which is there once; Groovy's comments are left out."""
    code = re.sub(r"^\s*//.*$", "", code, flags=re.MULTILINE)
    _, _, rest = code.partition(head)
    assert rest and head not in rest and "{" not in head, f"{head!r} is not there once"
    start = rest.index("{") + 1
    depth = 1
    for end, sign in enumerate(rest[start:], start):
        depth += {"{": 1, "}": -1}.get(sign, 0)
        if depth == 0:
            return rest[start:end]
    raise AssertionError(f"the braces after {head!r} are not closed")


def test_only_a_push_or_a_person_makes_a_release() -> None:
    """The first run, and any other that a start of Jenkins might queue, only checks out."""
    pipeline = block((TOP / "Jenkinsfile").read_text(encoding="utf-8"), "pipeline")
    release = block(pipeline, "stage('Release')")
    assert release.split()[:2] == ["when", "{"], "of the stage itself, before the stages in it"
    condition, stages = release.split("stages {", 1)
    allowed = block(condition, "anyOf")
    assert condition.replace(allowed, "").split() == ["when", "{", "anyOf", "{}", "}"]
    causes = [line.strip() for line in allowed.strip().splitlines()]
    assert causes == ["triggeredBy 'SCMTrigger'", "triggeredBy cause: 'UserIdCause'"]
    assert set(re.findall(r"phoenix-stage (\w+)", stages)) >= {"lint", "test", "package", "deploy", "rollback"}
    assert re.findall(r"phoenix-stage ([\w ]+)", pipeline.replace(release, "")) == ["result failed"]


def test_a_start_of_jenkins_queues_a_run_only_where_there_was_none() -> None:
    job = (TOP / "roles" / "jenkins" / "files" / "job.groovy").read_text(encoding="utf-8")
    (name,) = re.findall(r"pipelineJob\('(\w+)'\)", job)
    # The numbered folders of a job's runs.
    (condition,) = re.findall(r"^if \((.*)\) \{$", job, re.MULTILINE)
    found = re.fullmatch(r"!new File\('([^']+)'\)\.list\(\)\?\.any \{ name -> name\.integer \}", condition)
    assert found, condition
    unit = (TOP / "roles" / "jenkins" / "templates" / "jenkins.service.j2").read_text(encoding="utf-8")
    home = re.findall(r"JENKINS_HOME=(\S+)", unit)[0].strip('"')
    assert found[1] == f"{home}/jobs/{name}/builds"
    queued = f"queue('{name}')"
    assert re.search(r"\n\}\n*\Z", job) and job.count("queue(") == 1
    assert job.split(f"if ({condition}) {{")[1].strip().rstrip("}").strip() == queued

from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymongo.uri_parser import parse_uri

from phoenix.fleet.uri import is_connection_string, mongodb_uri, source_error

MEMBERS = [{"address": "192.0.2.1"}, {"address": "192.0.2.2"}]
TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)


def test_example() -> None:
    made = mongodb_uri("phoenix", "@:/?#%", MEMBERS, 27017, "phoenix", "rs")
    assert made.startswith("mongodb://phoenix:%40%3A%2F%3F%23%25@192.0.2.1:27017,")  # pragma: allowlist secret
    assert made.endswith(",192.0.2.2:27017/phoenix?replicaSet=rs&authSource=admin")


@given(user=TEXT, password=TEXT, database=TEXT)
def test_every_part_survives(user: str, password: str, database: str) -> None:
    text = mongodb_uri(user, password, MEMBERS, 27017, database, "rs")
    parts = urlsplit(text)
    userinfo, _, hosts = parts.netloc.rpartition("@")
    assert [unquote(part) for part in userinfo.split(":")] == [user, password]
    assert hosts == "192.0.2.1:27017,192.0.2.2:27017"
    assert unquote(parts.path.removeprefix("/")) == database
    assert is_connection_string(text)


@given(user=TEXT, password=TEXT)
def test_mongodbs_own_driver_reads_it(user: str, password: str) -> None:
    read = parse_uri(mongodb_uri(user, password, MEMBERS, 27017, "phoenix", "rs"), validate=True)
    assert (read["username"], read["password"], read["database"]) == (user, password, "phoenix")
    assert read["nodelist"] == [("192.0.2.1", 27017), ("192.0.2.2", 27017)]
    assert read["options"]["replicaSet"] == "rs" and read["options"]["authSource"] == "admin"


def test_ipv6_and_own_port() -> None:
    assert "@[2001:db8::1]:27018/" in mongodb_uri("u", "p", [{"address": "2001:db8::1", "port": 27018}], 1, "d", "rs")


def test_a_member_by_its_name() -> None:
    named = [{"address": "2001:db8::1", "name": "db1.phoenix.internal"}]
    assert "@db1.phoenix.internal:27017/" in mongodb_uri("u", "p", named, 27017, "d", "rs")


def test_no_member() -> None:
    with pytest.raises(ValueError, match="members is empty"):
        mongodb_uri("u", "p", [], 27017, "d", "rs")


@pytest.mark.parametrize("character", "@:/?#%")
def test_an_unencoded_password_is_detected(character: str) -> None:
    userinfo = f"phoenix:a{character}zb"
    assert not is_connection_string(f"mongodb://{userinfo}@192.0.2.1:27017/phoenix?replicaSet=rs")


SECRET = "s3same"  # pragma: allowlist secret


@pytest.mark.parametrize(
    ("source", "good"),
    [
        ("/srv/app@2", True),
        ("https://git.example.org/app.git#v1", True),
        ("git+https://git.example.org:8443/app.git@v1", True),
        ("https://[2001:db8::1]/app.git", True),
        ("git@git.example.org:app.git#main", True),
        ("git+ssh://git@git.example.org:2222/app.git", True),
        (f"https://{SECRET}@git.example.org/app.git", False),
        (f"git+https://me:{SECRET}@git.example.org/app.git", False),
        (f"HTTP://me:{SECRET}@git.example.org/app.git", False),
        (f"https://me:{SECRET}/x@git.example.org/app.git", False),
        (f"https://me:{SECRET}#x@git.example.org/app.git", False),
        (f"ssh://git:{SECRET}@git.example.org/app.git", False),
    ],
)
def test_a_source_holds_no_secret(source: str, good: bool) -> None:
    error = source_error(source)
    assert not error if good else "release_deploy_key" in error
    assert SECRET not in error


def test_options_follow_the_others() -> None:
    made = mongodb_uri("u", "p", MEMBERS, 27017, "d", "rs", options="ssl=true")
    assert made.endswith("/d?replicaSet=rs&authSource=admin&ssl=true")
    assert parse_uri(made, validate=True)["options"]["tls"] is True
    assert mongodb_uri("u", "p", MEMBERS, 27017, "d", "rs", options="") == made.removesuffix("&ssl=true")

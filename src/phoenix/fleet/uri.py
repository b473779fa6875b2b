"""Addresses that an inventory gives: of the fleet, of its source, and MongoDB's connection strings.

The latter: https://www.mongodb.com/docs/manual/reference/connection-string/.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote, urlsplit

from phoenix.common import endpoint
from phoenix.database import names


def _encoded(text: str) -> str:
    # safe="": quote() leaves "/" alone by default, which ends the host list of a connection string.
    return quote(str(text), safe="")


def mongodb_uri(
    user: str,
    password: str,
    members: Iterable[Mapping[str, Any]],
    port: int,
    database: str,
    replica_set: str,
    auth_source: str = "admin",
    options: str = "",
) -> str:
    """Return a connection string that names every member, each part percent-encoded.

    `members` are mappings with an `address` and, where they differ, a `name` in its place and a `port`. An IPv6
    address is put in brackets. `options` follow the others, as `ssl=true`.

    Raises:
        ValueError: there is no member.
    """
    seeds = [endpoint.of(names.known_as(member), int(member.get("port", port))) for member in members]
    if not seeds:
        raise ValueError("mongodb_uri: members is empty: name at least one member with its address")
    return (
        f"mongodb://{_encoded(user)}:{_encoded(password)}@{','.join(seeds)}/{_encoded(database)}"
        f"?replicaSet={_encoded(replica_set)}&authSource={_encoded(auth_source)}{options and '&'}{options}"
    )


def is_connection_string(text: str) -> bool:
    """Whether the text is a mongodb:// URI whose user and password are percent-encoded."""
    scheme, _, rest = text.partition("://")
    if scheme not in ("mongodb", "mongodb+srv") or not rest:
        return False
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    userinfo, at, hosts = authority.rpartition("@")
    # An unencoded / ? or # ends the authority early and leaves the @ behind it; an unencoded @ or : stays in it.
    if not hosts or userinfo.endswith(":") or "@" in rest[len(authority) :]:
        return False
    return not at or (
        "@" not in userinfo and userinfo.count(":") <= 1 and not re.search(r"%(?![0-9A-Fa-f]{2})", userinfo)
    )


def url_error(text: str) -> str:
    """Return why this is not the URL of a fleet, whose host identifies it in backups; or ""."""
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        return f"{text!r} is no address ({error}); write it like https://www.example.org"
    sound = parts.scheme in ("http", "https") and re.fullmatch(
        r"[A-Za-z0-9:]([A-Za-z0-9.:-]*[A-Za-z0-9])?", parts.hostname or ""
    )
    if not sound or port == 0:
        return f"{text!r} is no address of a web site; write it like https://www.example.org or http://192.0.2.11:8080"
    if "@" in parts.netloc or parts.path not in ("", "/") or parts.query or parts.fragment:
        return f"{text!r} has more than scheme, host and port; leave the rest out"
    return ""


def source_error(text: str) -> str:
    """Return why this source of the application, a folder or a Git URL, can't be taken: it holds a secret; or "".

    Nothing of the URL is in the message.
    """
    if "://" not in text:
        return ""
    try:
        parts = urlsplit(text)
        user, password, _ = parts.username, parts.password, parts.port
    except ValueError:  # the / of a secret that is not encoded ends it where the port would be
        held = True
    else:
        held = password is not None or (user is not None and parts.scheme.endswith(("http", "https")))
    if not held:
        return ""
    return (
        "(hidden) holds a token or a password, or a user, which over HTTP may be a token; control would keep it where "
        "others read it. Leave it out, and revoke it: a private repository is read over SSH, as git@HOST:PATH, with "
        "release_deploy_key and release_known_hosts"
    )

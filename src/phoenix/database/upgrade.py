"""Whether the replica set may run another version of the server, or have another feature compatibility version.

A server of a series can open data of its own feature compatibility version and of the one before. So the feature
compatibility decides: while it is the former one, the way back is open; once it is raised, it has to be lowered first.
"""

from __future__ import annotations

from collections.abc import Mapping

from phoenix.fleet.inputs import MONGODB_SERIES


def series(version: str) -> str:
    """The release series of a version: 6.0 of 6.0.27."""
    return ".".join(version.split(".")[:2])


def opens(version: str) -> tuple[str, ...]:
    """The feature compatibility versions that a server of this version can run with, its own last."""
    own = MONGODB_SERIES.index(series(version))
    return MONGODB_SERIES[max(0, own - 1) : own + 1]


def refusal(target: str, compatibility: str) -> str:
    """Why the members may not be given the version `target`; "" when they may."""
    possible = opens(target)
    if compatibility in possible:
        return ""
    back = compatibility in MONGODB_SERIES and MONGODB_SERIES.index(compatibility) > MONGODB_SERIES.index(possible[-1])
    fix = (
        f"For the way back, run the play with -e phoenix_feature_compatibility={possible[-1]} first"
        if back
        else f"Upgrade to {possible[0]} first, with its feature compatibility version"
    )
    return (
        f"mongodb_version = {target} can't run with the set's feature compatibility version {compatibility} "
        f"({' or '.join(possible)}). {fix}."
    )


def turns(members: Mapping[str, Mapping[str, object]]) -> list[str]:
    """The members that run another version than is wanted, {version, wanted, primary} each; the primary last."""
    return sorted(
        (host for host, seen in members.items() if seen["version"] != seen["wanted"]),
        key=lambda host: bool(members[host]["primary"]),
    )


def compatibility_refusal(wanted: str, running: Mapping[str, str]) -> str:
    """Why the set may not have this feature compatibility version; "" when it may. running: host -> its version."""
    unable = {host: version for host, version in running.items() if wanted not in opens(version)}
    if not unable:
        return ""
    seen = ", ".join(f"{host} runs {version}" for host, version in unable.items())
    return (
        f"phoenix_feature_compatibility = {wanted} is not possible: {seen}. Every member has to run {wanted} or the "
        "series after it: upgrade the members first."
    )


def series_refusal(host: str, installed: str, wanted: str) -> str:
    """Why a run of site.yml may not bring this version to a host; "" where the series stays, or none is installed."""
    if not installed or series(installed) == series(wanted):
        return ""
    return (
        f"mongodb_version = {wanted} is another series than {host} has ({installed}). playbooks/upgrade-mongodb.yml "
        "checks that it may follow, and changes one member after the other."
    )

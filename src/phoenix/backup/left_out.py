"""Collections that somebody made in the server's own databases: no dump brings them back, so each dump names them.

mongodump leaves out `local` and most of `config`, and what is restored into `admin` or `config` of a running fleet
could be the server's own by the same name. The server's collections are known by name; of what is not, people decide.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable
from typing import Any

# The server's own, of any version and kind of deployment, and of its tools.
OWN = {
    "admin": ("system.*", "tempusers", "temproles"),
    "config": (
        "system.*", "cache.*", "transactions", "transaction_coordinators", "image_collection", "settings", "version",
        "external_validation_keys", "oplog.*", "shards", "databases", "collections", "chunks", "tags", "csrs.*",
        "changelog", "actionlog", "locks", "lockpings", "mongos", "vectorClock", "clusterParameters",
        "placementHistory", "migration*", "rangeDeletions*", "resharding*", "localReshardingOperations.*",
        "localRenameParticipants.*",
        "sharding_*", "sampled*", "analyzeShardKey*", "queryAnalyzers", "tenant*", "shardSplit*", "shardMerge*",
        "unsharded*", "block*", "changes.*", "preimages*",
    ),
    "local": (
        "system.*", "oplog.*", "replset.*", "startup_log", "me", "slaves", "sources", "temp_*", "tenantMigration*",
        "clustermanager", "replicationRecoveryOplog*",
    ),
}  # fmt: skip
LARGEST = 100


def foreign(database: str, titles: Iterable[str]) -> list[str]:
    """Pure: those of a database's collections that are in the server's own databases, and not the server's."""
    patterns = OWN.get(database, ("*",))
    return [
        f"{database}.{title}"
        for title in sorted(titles)
        if not any(fnmatch.fnmatchcase(title, pattern) for pattern in patterns)
    ]


def take(client: Any) -> list[str]:
    """What a dump of this server leaves out, by name. Raises pymongo's errors."""
    found = [name for database in OWN for name in foreign(database, client[database].list_collection_names())]
    return found[:LARGEST]


def condition(name: str) -> str:
    """Pure: what is known of a collection that was left out, and what to do."""
    database, _, title = name.partition(".")
    return (
        f"{name} is in a database of the server's own, which is neither verified nor restored: move it to one of its "
        f'own, such as db.getSiblingDB("{database}").getCollection("{title}").aggregate([{{$out: {{db: "NAME", '
        f'coll: "{title}"}}}}]), and drop it there'
    )

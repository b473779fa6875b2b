"""What of a collection deletes itself, and when: by a TTL index, or by an expiry of its own.

Counted in the scratch server, in which nothing expires, by the hour after the dump's moment. So a later dump is
measured against what should still have been there.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping
from typing import Any

HOUR = 3600
LONGEST = 2**31 - 1  # seconds, of MongoDB
HORIZON = 24 * 90  # hours; what lasts longer is taken for lasting


def fields(options: Mapping[str, Any], indexes: Iterable[Mapping[str, Any]]) -> list[tuple[str, float]]:
    """Pure: the fields by whose dates the documents of a collection expire, and after how many seconds."""
    own = options.get("timeseries", {}).get("timeField", "_id")
    found = [(own, options["expireAfterSeconds"])] if "expireAfterSeconds" in options else []
    found += [(next(iter(one["key"])), one["expireAfterSeconds"]) for one in indexes if "expireAfterSeconds" in one]
    return [(name, float(seconds)) for name, seconds in found if _expires(seconds) and _path(name)]


def _expires(seconds: Any) -> bool:
    """Whether it is a time that a server accepts today: indexes of former versions hold anything."""
    return isinstance(seconds, (int, float)) and 0 <= seconds <= LONGEST


def _path(name: str) -> bool:
    """Whether an expression can name this field."""
    return all(part and not part.startswith("$") for part in name.split("."))


def _hour(name: str, seconds: float, moment: float) -> dict[str, Any]:
    """The expression for the hour in which a document expires by one field; null where it does not until the horizon.

    Nor does what expired long before the moment and was still there: a filter of the index leaves it out.
    """
    start = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc) + datetime.timedelta(seconds=moment - seconds)
    first, end = start - datetime.timedelta(hours=1), start + datetime.timedelta(hours=HORIZON)
    date = {"$min": f"${name}"}  # of several dates, the first counts
    within = {"$and": [{"$gte": [date, first]}, {"$lt": [date, end]}]}  # which no value of another type is
    return {"$cond": [within, {"$floor": {"$divide": [{"$subtract": [date, start]}, HOUR * 1000]}}, None]}


def take(client: Any, names: Iterable[str], moment: float) -> dict[str, dict[str, int]]:
    """How many documents expire in which hour after the moment, by collection, of those in which any can.

    moment: of the dump, in seconds since 1970.
    """
    found = {}
    for name in names:
        database, title = name.split(".", 1)
        shown = next(client[database].list_collections(filter={"name": title}), None)
        if shown is None:
            continue  # the comparison with the manifest reports that it is missing
        indexes = () if shown.get("type") == "timeseries" else client[database][title].list_indexes()
        if by := fields(shown.get("options", {}), indexes):
            # The least of hours and nulls: a document without any date lasts.
            hour = {"$min": [*(_hour(field, seconds, moment) for field, seconds in by), HORIZON]}
            groups = client[database][title].aggregate([{"$group": {"_id": hour, "documents": {"$sum": 1}}}])
            hours = {int(one["_id"]): int(one["documents"]) for one in groups}
            found[name] = {str(hour): count for hour, count in sorted(hours.items()) if hour < HORIZON}
    return found


def lasting(documents: int, size: int, hours: Mapping[str, int], seconds: float) -> tuple[int, int]:
    """Pure: of documents, and their bytes in proportion, what should be there so many seconds after the moment."""
    left = documents - sum(count for hour, count in hours.items() if int(hour) * HOUR <= seconds)
    return (left, size * left // documents) if documents else (0, 0)

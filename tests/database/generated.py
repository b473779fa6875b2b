"""Databases out of a seed, dumped and restored, and indexes that only former servers made."""

from __future__ import annotations

import datetime
import random
import uuid
from collections.abc import Callable
from typing import Any

from bson import Binary, Code, Decimal128, Int64, ObjectId, Regex, Timestamp
from bson.son import SON

from tests.harness.real_database import Fleet

LETTERS = "abcdefgh_-.:ñß漢 0123"


def value(dice: random.Random, depth: int = 0) -> Any:
    """A value of any BSON type that drivers write."""
    simple: list[Callable[[], Any]] = [
        lambda: dice.randint(-(2**31), 2**31 - 1),
        lambda: Int64(dice.randint(-(2**63), 2**63 - 1)),
        lambda: dice.choice([0.0, -0.0, 1e300, float("inf"), dice.random()]),
        lambda: Decimal128(dice.choice(["1.10", "1.1", "NaN", "-Infinity", "9.999E+6000"])),
        lambda: "".join(dice.choices(LETTERS, k=dice.randint(0, 40))),
        lambda: dice.choice([True, False, None]),
        lambda: datetime.datetime.fromtimestamp(dice.randint(0, 2**31), datetime.UTC),
        lambda: ObjectId(dice.randbytes(12)),
        lambda: Binary(dice.randbytes(dice.randint(0, 60)), dice.choice([0, 2, 5, 128])),
        lambda: Binary.from_uuid(uuid.UUID(bytes=dice.randbytes(16))),
        lambda: Timestamp(dice.randint(1, 2**31), 1),
        lambda: Regex("^a.*", 2),
        lambda: Code("function () { return 1 }"),
    ]
    if depth < 3 and dice.random() < 0.3:
        if dice.random() < 0.5:
            return [value(dice, depth + 1) for _ in range(dice.randint(0, 4))]
        return SON((f"f{number}", value(dice, depth + 1)) for number in range(dice.randint(0, 4)))
    return dice.choice(simple)()


def document(dice: random.Random) -> dict[str, Any]:
    return {f"f{number}": value(dice) for number in dice.sample(range(9), dice.randint(0, 6))}


def options(dice: random.Random, former: bool) -> dict[str, Any]:
    """Of a collection. former: for a server of 5.0, which clusters none."""
    chosen: dict[str, Any] = dice.choice(
        [
            {},
            {},
            {"collation": {"locale": "de", "strength": 1}},
            {"capped": True, "size": 1 << 16},
            {"clusteredIndex": {"key": {"_id": 1}, "unique": True}},
            {"validator": {"f1": {"$exists": True}}, "validationLevel": "moderate"},
            {"validator": {"$jsonSchema": {"required": ["f2"]}}, "validationAction": "warn"},
        ]
    )
    return {} if former and "clusteredIndex" in chosen else chosen


def indexes(dice: random.Random, former: bool) -> list[dict[str, Any]]:
    """For a collection, of names and keys that do not exclude each other."""
    known: list[dict[str, Any]] = [
        {"key": {"f1": 1}, "name": "one"},
        {"key": {"f1": -1, "_id": 1}, "name": "two", "sparse": True},
        {"key": {"marker": 1}, "name": "three", "unique": True, "partialFilterExpression": {"marker": {"$gt": 0}}},
        {"key": {"f3": "hashed"}, "name": "four"},
        # No date since 1970 expires, so that both ends hold the same.
        {"key": {"f4": 1}, "name": "five", "expireAfterSeconds": 2**31 - 1},
        {"key": {"text": "text"}, "name": "six", "weights": {"text": 5}, "default_language": "french"},
        {"key": {"place": "2dsphere"}, "name": "seven"},
        {"key": {"wild.$**": 1}, "name": "eight"},
        {"key": {"f5": 1}, "name": "nine", "collation": {"locale": "sv"}, "hidden": True},
    ]
    # 5.0 refuses an expiry that reaches back to before 1970.
    return [one for one in dice.sample(known, dice.randint(0, 4)) if not (former and "expireAfterSeconds" in one)]


def generate(client: Any, seed: int) -> list[tuple[str, str]]:
    """Make some databases; returns their collections' names."""
    former = client.server_info()["versionArray"][0] < 6
    dice, made = random.Random(seed), []
    for number in range(dice.randint(1, 3)):
        database = client[f"seed{seed}_{number}"]
        for count in range(dice.randint(1, 6)):
            title = f"c{count}" + "".join(dice.choices(LETTERS.replace(".", ""), k=dice.randint(0, 12)))
            chosen = options(dice, former)
            database.create_collection(title, **{k: v for k, v in chosen.items() if not k.startswith("valid")})
            wanted = indexes(dice, former)
            if "collation" in chosen:  # unknown to text and geo indexes
                wanted = [one for one in wanted if one["name"] not in ("six", "seven")]
            if "capped" in chosen:
                wanted = [one for one in wanted if "expireAfterSeconds" not in one]
            if wanted:
                database.command({"createIndexes": title, "indexes": wanted})
            content = [{"_id": index, **document(dice)} for index in range(dice.randint(0, 300))]
            # Arrays can't be hashed.
            for one in content:
                one.pop("f3", None)
            if content:
                database[title].insert_many(content)
            if "validator" in chosen:
                database.command({"collMod": title, **chosen})
            made.append((database.name, title))
        if dice.random() < 0.5:
            database.system.js.insert_one({"_id": "f", "value": Code("function () { return 1 }")})
        database.command({"create": "shown", "viewOn": made[-1][1], "pipeline": [{"$match": {"f1": None}}]})
    return made


def comes_back(fleet: Fleet, seed: int) -> None:
    """Dump, damage and restore a generated database, which is then as it was."""
    made = generate(fleet.client, seed)
    before = fleet.state()
    dump = fleet.dump()
    assert dump.state == "good", dump.reason
    dice = random.Random(seed)
    for database, title in dice.sample(made, len(made) // 2):
        fleet.client[database][title].drop()
    for database in {database for database, _ in made}:
        fleet.client[database].later.insert_one({"_id": 1})
    fleet.restore()
    assert {name: one for name, one in fleet.state().items() if ".phoenix_aside." not in name} == before


def legacy_index(fleet: Fleet, title: str) -> None:
    """An index with options that a server accepted once, and refuses now."""
    allow = "skipIndexCreateFieldNameValidation"
    fleet.client.admin.command("configureFailPoint", allow, mode="alwaysOn")
    try:
        index = {"key": {"n": 1}, "name": "n_1", "safe": True, "dropDups": True}
        fleet.client.app.command({"createIndexes": title, "indexes": [index]})
    finally:
        fleet.client.admin.command("configureFailPoint", allow, mode="off")

"""The contract as programs read it: validators of docs/provider.schema.json."""

import json

from jsonschema import Draft202012Validator

from tests.unit.shared import TOP

SCHEMA = json.loads((TOP / "docs" / "provider.schema.json").read_text(encoding="utf-8"))
Draft202012Validator.check_schema(SCHEMA)
requests = Draft202012Validator({**SCHEMA, "$ref": "#/$defs/request"})
answers = Draft202012Validator({**SCHEMA, "$ref": "#/$defs/answer"})

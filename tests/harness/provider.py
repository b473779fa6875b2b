"""The contract of providers for tests: a host to create, and validators of docs/provider.schema.json."""

import json
from pathlib import Path

from jsonschema import Draft202012Validator

from phoenix.provider import cloud_config
from phoenix.provider.contract import Spec

SCHEMA = json.loads((Path(__file__).resolve().parents[2] / "docs" / "provider.schema.json").read_text(encoding="utf-8"))
Draft202012Validator.check_schema(SCHEMA)
requests = Draft202012Validator({**SCHEMA, "$ref": "#/$defs/request"})
answers = Draft202012Validator({**SCHEMA, "$ref": "#/$defs/answer"})

KEY = {"private": "secret", "public": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDu3"}
AUTHORIZED = ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDu3 ann@example.org"]
SPEC = Spec(
    image="debian-12",
    user="debian",
    authorized_keys=AUTHORIZED,
    host_key=KEY,
    user_data=cloud_config.user_data("app9", "debian", AUTHORIZED, KEY),
    address="192.0.2.9",
)

"""The scan for secrets finds what detect-secrets itself finds."""

from __future__ import annotations

from pathlib import Path

import pytest
from detect_secrets.core import scan
from detect_secrets.settings import default_settings, get_settings

from tests.tools import detect_secrets

VERIFIED = "detect_secrets.filters.common.is_ignored_due_to_verification_policies"
EXCLUDED = "detect_secrets.filters.regex.should_exclude_"
# In parts, as this file is scanned as well.
WORD = "pass" + "word"
LINES = [
    "AKIA" + "QWERTYUIOPASDFGH",
    "-----BEGIN RSA PRIVATE " + "KEY-----",
    f'{WORD} = "hunter-12"',
    f"{WORD}: hunter-12",
    f'{WORD} = "hunter-12"  # pragma: allow' + "list secret",
    "# pragma: allow" + "list nextline secret",
    f'{WORD} = "hunter-12"',
    "",
    f'{WORD} = "hunter-13"',
    f"https://me:1{WORD}" + "@example.org",
    'digest = "0123456789ab' + 'cdef0fedcba987654321"',
    f"{WORD}: hunter-12",
    f'DB_{WORD.upper()} = "hunter-14"',
    'checksum_of_key = "0123456789ab' + 'cdef0fedcba987654321"',
]


def found(path: Path) -> list[tuple[str, int, str]]:
    with default_settings():
        get_settings().filters |= {
            f"{EXCLUDED}line": {"pattern": ["^checksum"]},
            f"{EXCLUDED}secret": {"pattern": ["^hunter-13$"]},
        }
        get_settings().disable_filters(VERIFIED)
        return sorted((one.type, one.line_number, one.secret_hash) for one in scan.scan_file(str(path)))


@pytest.mark.parametrize("name", ["a.py", "a.yml", "a.ini", "a.sh", "a.md"])
def test_the_same_is_found(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / name
    path.write_text("\n".join(LINES) + "\n", encoding="utf-8")
    usual = found(path)
    monkeypatch.setattr(scan, "_process_line_based_plugins", detect_secrets.process)
    assert usual and found(path) == usual


def test_a_line_is_judged_by_the_type_of_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unquoted, it is a password in YAML and an expression in Python."""
    monkeypatch.setattr(scan, "_process_line_based_plugins", detect_secrets.process)
    for name, secrets in (("a.py", 0), ("b.yml", 1), ("c.py", 0)):
        (tmp_path / name).write_text(f"{WORD}: hunter-12\n", encoding="utf-8")
        assert len(found(tmp_path / name)) == secrets

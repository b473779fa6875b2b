"""The password of an inventory's vault replaced, with Ansible's own encryption."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible.parsing.vault import AnsibleVaultError, VaultLib, VaultSecret

from phoenix.fleet import vault


def encrypted(text: str, password: str, label: str | None = None) -> str:
    return str(VaultLib().encrypt(text, VaultSecret(password.encode()), vault_id=label).decode())


def opened(text: str, password: str) -> str:
    return str(VaultLib([("default", VaultSecret(password.encode()))]).decrypt(text).decode())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "vault.yml").write_text(encrypted("a: 1\n", "former", "prod"))
    (tmp_path / "vault.yml").chmod(0o600)
    inner = "".join(f"    {line}\n" for line in encrypted("inner", "former").splitlines())
    (tmp_path / "main.yml").write_text(f"# $ANSIBLE_VAULT; is explained here\nb: !vault |\n{inner}c: 3\n")
    (tmp_path / "plain.yml").write_text("d: 4\n")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    return tmp_path


def value(folder: Path) -> str:
    found = vault.VALUE.search((folder / "main.yml").read_text())
    assert found
    return "".join(f"{line.strip()}\n" for line in found["body"].splitlines())


def test_files_and_values_open_with_the_new_password_alone(folder: Path) -> None:
    assert [path.name for path in vault.rekey(folder, "former", "new")] == ["main.yml", "vault.yml"]
    whole = (folder / "vault.yml").read_text()
    assert opened(whole, "new") == "a: 1\n" and opened(value(folder), "new") == "inner"
    assert whole.startswith("$ANSIBLE_VAULT;1.2;AES256;prod\n"), "its label stays"
    assert (folder / "vault.yml").stat().st_mode & 0o777 == 0o600
    lines = (folder / "main.yml").read_text().splitlines()
    assert lines[1] == "b: !vault |" and lines[-1] == "c: 3" and lines[2].startswith("    $ANSIBLE")
    for text in (whole, value(folder)):
        with pytest.raises(AnsibleVaultError):
            opened(text, "former")
    assert vault.rekey(folder, "former", "new") == [], "a second run changes nothing"


def test_a_run_that_was_cut_is_completed(folder: Path) -> None:
    (folder / "vault.yml").write_text(encrypted("a: 1\n", "new"))
    assert [path.name for path in vault.rekey(folder, "former", "new")] == ["main.yml"]


def test_nothing_is_changed_where_something_has_another_password(folder: Path) -> None:
    (folder / "z.yml").write_text(encrypted("z: 1\n", "other"))
    before = {path: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(vault.Refused, match=r"z\.yml: neither the former nor the new password opens it; no file"):
        vault.rekey(folder, "former", "new")
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_a_program_gives_the_password_that_it_prints(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As for --vault-password-file: its own text as the password would open with nothing that Ansible then asks."""
    former, new = folder.with_name("former"), folder.with_name("new.sh")
    former.write_text("former\n")
    new.write_text("#!/bin/sh\necho printed\n")
    new.chmod(0o700)
    arguments = ["rekey", str(folder), "--former", str(former), "--new", str(new)]
    assert vault.main(arguments) == 0
    assert (
        opened((folder / "vault.yml").read_text(), "printed") == "a: 1\n"
        and opened(value(folder), "printed") == "inner"
    )
    new.write_text("#!/bin/sh\nexit 3\n")
    assert vault.main(arguments) == 1
    new.write_text("#!/bin/sh\necho former\n")
    assert vault.main(arguments) == 1
    refused = capsys.readouterr().err
    assert "new.sh gives no password: " in refused and "the same password" in refused


@pytest.mark.parametrize("lead", ["b: !vault >\n", 'b: !vault "{header}\n', "b: !vault |  # a comment\n"])
def test_a_value_in_another_form_is_refused(folder: Path, lead: str) -> None:
    """Left as it is, it would be lost with the former password, after a run that has reported success."""
    first, *others = encrypted("inner", "former").splitlines()
    lines = others if "{header}" in lead else [first, *others]
    (folder / "main.yml").write_text(lead.format(header=first) + "".join(f"    {line}\n" for line in lines))
    before = {path: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(
        vault.Refused, match=r"main\.yml: .*ANSIBLE_VAULT;1\.1;AES256.* is not in the form of .*; no file"
    ):
        vault.rekey(folder, "former", "new")
    assert {path: path.read_bytes() for path in folder.iterdir()} == before

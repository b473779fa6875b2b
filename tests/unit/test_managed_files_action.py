"""managed_files: what is as wanted needs no module, and each difference does; a cut loses nothing."""

from __future__ import annotations

import grp
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.unit.plugins import action
from tests.unit.shared import TOP, read_yaml


class Host:
    """Looks into the file system of this machine, where the test's user stands for root."""

    def __init__(self) -> None:
        self.written = list[Any]()

    def command(self, command: str, in_data: bytes) -> dict[str, Any]:
        assert in_data, "otherwise it has a terminal"
        shown = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True).stdout
        own = f"{os.getuid()} {grp.getgrgid(os.getgid()).gr_name} "
        return {"stdout": "".join(line.replace(own, "0 root ", 1) for line in shown.splitlines(keepends=True))}

    def module(self, name: str, module_args: dict[str, Any], **_: Any) -> dict[str, Any]:
        assert name == "managed_files"
        self.written.append(module_args["files"])
        return {"changed": True, "changed_paths": ["it"]}

    def keep(self, *files: dict[str, Any], **options: str) -> dict[str, Any]:
        plugin = action("managed_files", {"files": list(files), **options}, check=False)
        plugin._low_level_execute_command, plugin._execute_module = self.command, self.module
        result: dict[str, Any] = plugin.run(task_vars={})
        return result


@pytest.fixture
def files(tmp_path: Path) -> list[dict[str, Any]]:
    """A folder and three files, as they are."""
    folder = tmp_path / "a folder's"
    folder.mkdir(mode=0o750)
    described = [{"path": str(folder), "mode": "0750"}]
    for name, content, mode in (("plain", "Grüße\n", "0644"), ("secret", "x" * 5000, "0400"), ("empty", "", "4755")):
        path = folder / name
        path.write_text(content, encoding="utf-8")
        path.chmod(int(mode, 8))
        described.append({"path": str(path), "content": content, "mode": mode})
    del described[1]["mode"]  # the default
    return described


def test_what_is_as_wanted_needs_no_module(files: list[dict[str, Any]]) -> None:
    host = Host()
    assert host.keep(*files) == {"changed": False, "changed_paths": [], "diff": []}
    assert host.keep(files[0])["changed"] is False and host.keep()["changed"] is False
    assert not host.written


def other_group(path: Path, one: dict[str, Any]) -> None:
    one["group"] = "nobody-has-it"


@pytest.mark.parametrize(
    "change",
    [
        lambda path, _: path.write_text("Grüsse\n"),
        lambda path, _: path.write_text(""),
        lambda path, _: path.chmod(0o600),
        lambda path, _: path.unlink(),
        lambda path, _: (path.unlink(), path.mkdir()),
        other_group,
        lambda _, one: one.update(content="other\n"),
        lambda _, one: one.pop("content"),
    ],
)
def test_whatever_differs_is_the_modules(
    files: list[dict[str, Any]], change: Callable[[Path, dict[str, Any]], Any]
) -> None:
    host = Host()
    change(Path(files[1]["path"]), files[1])
    result = host.keep(*files)
    assert (result["changed"], result["changed_paths"], host.written) == (True, ["it"], [files])


def test_what_is_no_list_of_files_is_the_modules_to_refuse() -> None:
    host = Host()
    host.keep({"content": "x"})
    assert host.written == [[{"content": "x"}]]


def module(files: list[dict[str, Any]], **options: Any) -> dict[str, Any]:
    """Run the module itself, and return its result."""
    done = subprocess.run(
        [sys.executable, TOP / "library" / "managed_files.py"],
        input=json.dumps({"ANSIBLE_MODULE_ARGS": {"files": files, **options}}),
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    result: dict[str, Any] = json.loads(done.stdout)
    assert (done.returncode != 0) is result.get("failed", False)
    return result


def written(files: list[dict[str, Any]], unapplied: Path, *, check: bool = False) -> list[str]:
    """Run the module itself, and return changed_paths."""
    result = module(files, unapplied=str(unapplied), _ansible_check_mode=check)
    assert result["changed"] is bool(result["changed_paths"])
    return list(result["changed_paths"])


@pytest.mark.skipif(os.getuid() != 0, reason="the module gives its files to root")
def test_what_a_cut_run_wrote_is_reported_until_it_is_applied(tmp_path: Path) -> None:
    """The handlers of the run that wrote it may never have run."""
    files = [{"path": str(tmp_path / name), "content": name} for name in ("one", "two")]
    unapplied, host = tmp_path / "notes" / "role", Host()
    assert written(files, unapplied, check=True) == [one["path"] for one in files] and not unapplied.exists()
    assert written(files[:1], unapplied) == [files[0]["path"]]
    # The next run: one is as wanted, and not applied.
    host.keep(files[0], unapplied=str(unapplied))
    assert host.written == [[files[0]]]
    assert written(files, unapplied) == written(files, unapplied) == [one["path"] for one in files]
    unapplied.unlink()
    assert host.keep(*files, unapplied=str(unapplied))["changed"] is False and written(files, unapplied) == []


@pytest.mark.skipif(os.getuid() != 0, reason="the module gives its files to root")
@pytest.mark.parametrize("refused", [0, 1, 2])
def test_one_file_that_is_refused_leaves_all_as_they_were(tmp_path: Path, refused: int) -> None:
    """The others may need what it would have had, or it what they have no more."""
    paths = [tmp_path / name for name in ("one", "two", "three")]
    for path in paths[:2]:
        path.write_text("old")
    folder, note = tmp_path / "folder", tmp_path / "note"
    files: list[dict[str, Any]] = [{"path": str(folder)}]
    files += [{"path": str(path), "content": "new", "validate": "grep -q new %s"} for path in paths]
    files[1 + refused]["content"] = "wrong"
    result = module(files, unapplied=str(note))
    assert f"{paths[refused]}: grep -q new %s refused" in result["msg"]
    assert result["msg"].endswith(f"Not changed: {', '.join(map(str, paths))}.")
    assert [path.read_text() for path in paths[:2]] == ["old", "old"]
    assert sorted(one.name for one in tmp_path.iterdir()) == ["one", "two"]
    files[1 + refused]["content"] = "new"
    assert module(files)["changed_paths"] == [one["path"] for one in files]
    assert [path.read_text() for path in paths] == ["new"] * 3 and folder.is_dir()


@pytest.mark.skipif(os.getuid() != 0, reason="the module gives its files to root")
def test_a_file_is_validated_with_the_others_as_they_will_be(tmp_path: Path) -> None:
    whole, part, beside = tmp_path / "whole", tmp_path / "part", tmp_path / "beside"
    beside.write_text("b\n")
    validate = f"sh -c 'cat %{{{part}}} %{{{beside}}} | cmp - %s'"

    def files(part_: str, whole_: str) -> list[dict[str, Any]]:
        return [{"path": str(part), "content": part_}, {"path": str(whole), "content": whole_, "validate": validate}]

    assert module(files("a\n", "a\nb\n"))["changed"]
    assert module(files("c\n", "a\nb\n"))["changed"], "only a file that differs is validated"
    assert "Not changed" in module(files("d\n", "c\nb\n"))["msg"] and part.read_text() == "c\n"
    assert module(files("c\n", "c\nb\n"))["changed_paths"] == [str(whole)], "the other one is in place"


def test_the_note_is_removed_by_the_last_handler() -> None:
    found = []
    for path in sorted(TOP.glob("roles/*/tasks/*.yml")):
        for task in read_yaml(path):
            if note := (task.get("managed_files") or {}).get("unapplied"):
                found.append(note)
                last = read_yaml(path.parents[1] / "handlers" / "main.yml")[-1]
                assert last["ansible.builtin.file"] == {"path": note, "state": "absent"}
                assert task["notify"][-1] == last["name"]
    assert len(found) == len(set(found)) >= 2

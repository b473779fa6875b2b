"""The action plugin managed_files: what is as wanted needs no module, and each way in which a file may differ does."""

from __future__ import annotations

import grp
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.unit.plugins import action


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

    def keep(self, *files: dict[str, Any]) -> dict[str, Any]:
        plugin = action("managed_files", {"files": list(files)}, check=False)
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

#!/usr/bin/python
"""Keep several small files in one step: a task for each file would cost a round trip for each on every host and run."""

from __future__ import annotations

DOCUMENTATION = r"""
module: managed_files
short_description: Keep several small text files and folders, in one round trip
description:
  - Writes each file that differs in content, owner or mode, atomically. All of them are validated before the first is
    replaced, so that a file that is refused leaves the others as they were, too.
  - Check and diff mode work.
options:
  files:
    description: >-
      The files. C(validate) is a command with C(%s) for the new file, and C(%{/path}) for another one of the list: what
      is about to replace it, or the file itself where it stays. Parent folders are created.
    type: list
    elements: dict
    required: true
    suboptions:
      path: {description: Path of the file or folder., type: path, required: true}
      content: {description: Content; without it the path is a folder., type: str}
      mode: {description: Octal mode., type: str, default: "0644"}
      group: {description: Group; the owner is root., type: str, default: root}
      validate: {description: Command that must succeed on the new file before any file is put in place., type: str}
  unapplied:
    description: >-
      File that names what was written until the last handler removes it. A run that is cut before its handlers
      leaves it, and the next one reports the same files as changed again.
    type: path
author: [Phoenix]
"""
EXAMPLES = r"""
- name: Write two files
  managed_files:
    files:
      - {path: /etc/a.conf, content: "a\n"}
      - {path: /etc/sudoers.d/b, content: "b ALL=(ALL) ALL\n", mode: "0440", validate: "visudo -cf %s"}
"""
RETURN = r"""
changed_paths:
  description: Files written (or, in check mode, that would be), and those that are not applied.
  type: list
  returned: always
"""

import grp
import os
import re
import shlex
import stat
import tempfile
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule


def state_of(path: str) -> tuple[str | None, str]:
    """Return the content (None if absent or a folder) and "owner:group mode" of a path."""
    try:
        content = None if Path(path).is_dir() else Path(path).read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return None, ""
    seen = Path(path).stat()
    return content, f"{seen.st_uid}:{seen.st_gid} {stat.S_IMODE(seen.st_mode):04o}"


def stage(module: AnsibleModule, item: dict[str, str], gid: int) -> str:
    """Write the new file where nothing reads it, and return its path."""
    # Outside the target's folder, since daemons read every file of a *.d folder.
    fd, trial = tempfile.mkstemp(dir=str(module.tmpdir))
    with os.fdopen(fd, "w", encoding="utf-8") as handle:
        handle.write(item["content"])
    Path(trial).chmod(int(item["mode"], 8))
    os.chown(trial, 0, gid)
    return trial


def validate(module: AnsibleModule, item: dict[str, str], trials: dict[str, str]) -> None:
    """End the module where the file's own command refuses it. trials: the new files, by the paths that they get."""

    def filled(part: str) -> str:
        own = part.replace("%s", trials[item["path"]])
        return re.sub(r"%\{([^}]+)\}", lambda found: trials.get(found[1], found[1]), own)

    rc, out, err = module.run_command([filled(part) for part in shlex.split(item["validate"])])
    if rc != 0:
        module.fail_json(
            msg=f"{item['path']}: {item['validate']} refused the new content: {(err or out).strip()}. "
            f"Not changed: {', '.join(trials)}."
        )


def place(module: AnsibleModule, item: dict[str, str], gid: int, trial: str) -> None:
    """Replace the target: a reader never sees a partial file. trial: the new file; of a folder there is none."""
    target = Path(item["path"])
    target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    if trial:
        module.atomic_move(trial, item["path"])
    else:
        target.mkdir(exist_ok=True)
    target.chmod(int(item["mode"], 8))
    os.chown(target, 0, gid)


def note(path: str) -> list[str]:
    """Return the files that were written and not applied, by the note of this path; none without one."""
    try:
        return Path(path).read_text(encoding="utf-8").splitlines() if path else []
    except FileNotFoundError:
        return []


def remember(path: str, written: list[str]) -> None:
    Path(path).parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    # Replaced: a cut in between must not forget what an earlier run noted.
    beside = Path(f"{path}.new")
    beside.write_text("".join(f"{one}\n" for one in written), encoding="utf-8")
    beside.replace(path)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "files": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "path": {"type": "path", "required": True},
                    "content": {"type": "str"},
                    "mode": {"type": "str", "default": "0644"},
                    "group": {"type": "str", "default": "root"},
                    "validate": {"type": "str"},
                },
            },
            "unapplied": {"type": "path"},
        },
        supports_check_mode=True,
    )
    os.umask(0o022)  # parent folders are for everyone, whatever a hardened host's default is
    unapplied = module.params["unapplied"]
    changed, diffs, due = note(unapplied), [], []
    for item in module.params["files"]:
        before, state = state_of(item["path"])
        gid = grp.getgrnam(item["group"]).gr_gid
        wanted = f"0:{gid} {int(item['mode'], 8):04o}"
        if before == item["content"] and state == wanted:
            continue
        if item["path"] not in changed:
            changed.append(item["path"])
        header = {
            "before_header": f"{item['path']} ({state or 'absent'})",
            "after_header": f"{item['path']} ({wanted})",
        }
        diffs.append({"before": before or "", "after": item["content"] or "", **header})
        due.append((item, gid))
    if not module.check_mode:
        trials = {item["path"]: stage(module, item, gid) for item, gid in due if item["content"] is not None}
        for item, _ in due:
            if item["path"] in trials and item.get("validate"):
                validate(module, item, trials)
        if unapplied and due:
            remember(unapplied, changed)
        for item, gid in due:
            place(module, item, gid, trials.get(item["path"], ""))
    module.exit_json(changed=bool(changed), changed_paths=changed, diff=diffs)


if __name__ == "__main__":
    main()

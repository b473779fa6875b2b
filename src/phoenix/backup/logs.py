"""The rotated logs of a host, and its units' journal, on their way to the store."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from phoenix.backup import files, sender

KEEP = 7 * 24
# A file that was just rotated is still written to until its program has opened the new one.
QUIET_SECONDS = 5.0


def choose(paths: list[Path]) -> list[tuple[str, Path]]:
    """Names in the store and paths of rotated files. A name stays when logrotate compresses the file a day later."""
    chosen: dict[str, Path] = {}
    for path in sorted(paths):
        chosen[path.name.removesuffix(".gz")] = path
    return sorted(chosen.items())


def drop_old(exported: list[str], held: set[str], keep: int) -> list[str]:
    """Exports (names that sort by time) to delete: all but the newest `keep`, if the store holds them."""
    return [name for name in sorted(exported)[:-keep] if name in held]


def dropped(since: float, oldest: float) -> str:
    """Pure: what the journal dropped between two exports, or "". since: of the last one; oldest: of what is there."""
    if oldest <= since:
        return ""
    first, last = (time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moment)) for moment in (since, oldest))
    return (
        f"the journal was full and dropped what was logged from {first} to {last}, before it was exported: raise "
        "base_journal_max_use, or export more often (backup_logs_schedule)"
    )


def oldest_entry() -> float:
    """When the oldest entry of the journal was logged, in seconds since 1970; 0 for an empty journal."""
    with subprocess.Popen(
        ["journalctl", "--quiet", "--no-pager", "--output=short-unix"], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        first = process.stdout.readline().split()
        process.kill()
    return float(first[0]) if first else 0.0


def export_journal(units: list[str], folder: Path, cursor: Path) -> Path | None:
    """Write what the units logged since the last export into a separate file; None if they logged nothing.

    The cursor moves after the file is safe: a crash in between repeats lines and loses none. Its file is as old as the
    export.
    """
    begun = time.time()
    partial, moved = folder / ".journal.part", cursor.with_name(f"{cursor.name}.new")
    moved.unlink(missing_ok=True)
    if cursor.exists():
        shutil.copyfile(cursor, moved)
    arguments = [item for unit in units for item in ("--unit", unit)]
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            ["journalctl", "--quiet", "--no-pager", "--output=short-iso-precise", f"--cursor-file={moved}", *arguments],
            stdout=subprocess.PIPE,
            stderr=errors,
        )
        assert process.stdout
        size = 0
        with gzip.open(partial, "wb", compresslevel=6) as packed:
            while piece := process.stdout.read(sender.PIECE):
                size += packed.write(piece)
        failed = process.wait() != 0
        errors.seek(0)
        complaint = errors.read().decode(errors="replace").strip()
    # journalctl reports this when no unit of these names has ever logged.
    if failed and "No data available" not in complaint:
        raise sender.Failed(f"journalctl ended with {process.returncode}: {complaint}")
    if not size:
        partial.unlink()
        if cursor.exists():
            os.utime(cursor, (begun, begun))
        return None
    path = folder / f"application.log-{time.strftime('%Y%m%d', time.gmtime())}-{int(time.time())}.gz"
    files.sync(partial)
    partial.replace(path)
    files.sync(folder)
    if moved.exists():
        files.sync(moved)
        os.utime(moved, (begun, begun))
        moved.replace(cursor)
    return path


def run(config: sender.Config, state: Path, folder: Path) -> int:
    """Export, send what was not sent yet, and record it. state: folder of this program's own records."""
    folder.mkdir(mode=0o750, exist_ok=True)
    gap, cursor = "", state / "journal.cursor"
    if config.journal_units:
        gap = dropped(cursor.stat().st_mtime, oldest_entry()) if cursor.exists() else ""
        export_journal(config.journal_units, folder, cursor)
    notes = state / "sent.json"
    sent = set((files.read_json(notes) or {}).get("names", []))
    exported = [path for path in folder.iterdir() if path.name.startswith("application.log-")]
    rotated = [path for pattern in config.logs for path in Path("/").glob(pattern.lstrip("/"))]
    still = time.time() - QUIET_SECONDS
    found = choose([path for path in rotated if path.stat().st_size and path.stat().st_mtime < still] + exported)
    due = [(f"{name}{'.gz' if path.suffix == '.gz' else ''}", path) for name, path in found if name not in sent]
    refused: sender.PartlyRefused | None = None
    try:
        held = sender.send_files(config, due)
    except sender.PartlyRefused as error:
        refused, held = error, error.held
    names = {name for name, _ in found}
    sent = (sent | {name.removesuffix(".gz") for name in held}) & names
    files.write(notes, json.dumps({"names": sorted(sent)}))
    for name in drop_old([path.name.removesuffix(".gz") for path in exported], sent, KEEP):
        (folder / f"{name}.gz").unlink()
    print(f"{len(held)} log files sent, {len(names & sent) - len(held)} were there already")
    if gap:
        print(f"failed: {gap}", file=sys.stderr)
    if refused:
        raise refused
    return sender.SETTLED if gap else 0

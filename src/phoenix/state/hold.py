"""A hold of the capacity, on control: until it ends, the autoscaler measures and changes nothing.

An operator's `scale.yml` still works. A hold that has ended, or can't be read, holds nothing.
"""

from __future__ import annotations

import contextlib
import json
import re
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path

from phoenix.common import files
from phoenix.state.lock import FOLDER

NAME = "hold"
LONGEST = timedelta(days=31)
DURATION = re.compile(r"(\d{1,4})([mhd])")
UNITS = {"m": "minutes", "h": "hours", "d": "days"}
CLOCK = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)")


@dataclass(frozen=True)
class Hold:
    """Who holds the capacity, why, and until when (seconds since the epoch: a time that people agreed on)."""

    until: float
    holder: str
    reason: str

    def text(self) -> str:
        """The hold for people, in the time of this host."""
        end = datetime.fromtimestamp(self.until).astimezone()
        return f"held by {self.holder} until {end:%Y-%m-%d %H:%M %Z}" + (f": {self.reason}" if self.reason else "")


def read(now: float, folder: Path = FOLDER) -> Hold | None:
    """The hold that applies now. Raises OSError or ValueError when its file can't be read."""
    try:
        content = json.loads((folder / NAME).read_text(encoding="utf-8"))
        hold = Hold(float(content["until"]), str(content["holder"]), str(content["reason"]))
    except FileNotFoundError:
        return None
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{folder / NAME} is damaged ({error}): phoenixctl capacity release removes it") from error
    return hold if now < hold.until else None


def begin(hold: Hold, folder: Path = FOLDER) -> None:
    files.replace(folder / NAME, json.dumps(asdict(hold)) + "\n", durable=True)


def end(folder: Path = FOLDER) -> None:
    with contextlib.suppress(FileNotFoundError):
        (folder / NAME).unlink()


def moment(text: str, now: datetime) -> datetime:
    """The time that a text stands for: `90m`, `2h`, `3d` from now, `18:00`, or a date with a time.

    Raises:
        ValueError: it is none of these, in the past, or too far ahead.
    """
    if found := DURATION.fullmatch(text):
        end = now + timedelta(**{UNITS[found[2]]: int(found[1])})
    elif found := CLOCK.fullmatch(text):
        end = now.replace(hour=int(found[1]), minute=int(found[2]), second=0, microsecond=0)
        end += timedelta(days=1 if end <= now else 0)
    else:
        try:
            end = datetime.fromisoformat(text)
        except ValueError:
            raise ValueError(f"{text!r} is no time; give 90m, 2h, 3d, 18:00 or 2026-12-01T18:00") from None
        end = end if end.tzinfo else end.replace(tzinfo=now.tzinfo)
    if not now < end <= now + LONGEST:
        raise ValueError(f"{text!r} is {end:%Y-%m-%d %H:%M}; give a time in the next {LONGEST.days} days")
    return end

"""Minimums by the calendar, in cron's terms: working hours, an announced campaign.

An entry begins whenever its `cron` matches, and lasts for `minutes`, or until the cron expression `until` matches.
Where several are active, the greatest minimum counts. Cron's terms and its clock changes are Debian's, by CronSim.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from phoenix.autoscaler.floor import Floor

UTC = ZoneInfo("UTC")
KEYS = {"cron", "minutes", "until", "minimum"}
MOST_MINUTES = 366 * 24 * 60


@dataclass(frozen=True)
class Entry:
    """A minimum that begins with `cron`, and ends after `minutes`, or with `until`."""

    cron: str
    minimum: int
    minutes: int = 0
    until: str = ""

    def end(self, now: datetime) -> datetime | None:
        """When the entry ends, if it is active."""
        began = _last(self.cron, now)
        if began is None:
            return None
        if self.minutes:
            end = (began.astimezone(UTC) + timedelta(minutes=self.minutes)).astimezone(now.tzinfo)
        else:
            found = next(CronSim(self.until, began), None)
            if found is None:
                return None
            end = found
        return end if now < end else None


@dataclass(frozen=True)
class Schedule:
    """The entries, in one time zone."""

    entries: tuple[Entry, ...] = ()
    zone: ZoneInfo = UTC

    def floor(self, timestamp: float) -> Floor | None:
        """The greatest minimum that applies now (seconds since the epoch), and where it comes from."""
        return _floor(self, int(timestamp // 60)) if self.entries else None


@lru_cache(maxsize=1)
def _floor(schedule: Schedule, minute: int) -> Floor | None:
    """Cron's terms change once a minute, and decisions are made several times a second."""
    now = datetime.fromtimestamp(minute * 60, schedule.zone)
    active = [(one.minimum, end, one) for one in schedule.entries if (end := one.end(now)) is not None]
    if not active:
        return None
    count, end, one = max(active, key=lambda found: found[:2])
    return Floor(count, f"the schedule {one.cron!r} until {end:%Y-%m-%d %H:%M %Z}")


def parse(entries: Any, zone: str, variable: str = "schedule") -> Schedule:
    """Read a schedule as it is configured.

    Raises:
        ValueError: an entry is invalid; the message names variable, value and fix.
    """
    try:
        read = ZoneInfo(zone)
    except (KeyError, ValueError, OSError) as error:
        raise ValueError(
            f"{variable}_timezone: {zone!r} is not a time zone of this system; give one such as Europe/Berlin or UTC"
        ) from error
    if not isinstance(entries, list):
        raise ValueError(f"{variable}: {entries!r} is not a list; give entries of {', '.join(sorted(KEYS))}")
    return Schedule(tuple(_entry(one, f"{variable}[{number}]") for number, one in enumerate(entries)), read)


def errors(entries: Any, zone: str, most: int, variable: str = "autoscaler_schedule") -> list[str]:
    """What is wrong with a schedule; `most`: instances that the application hosts hold."""
    try:
        schedule = parse(entries, zone, variable)
    except ValueError as error:
        return [str(error)]
    return [
        f"{variable}[{number}].minimum: {one.minimum} is above {most}, the instances that may run; lower it, or raise "
        "autoscaler_maximum or the number of application hosts"
        for number, one in enumerate(schedule.entries)
        if one.minimum > most
    ]


def _entry(one: Any, name: str) -> Entry:
    keys = set(one) if isinstance(one, Mapping) else set()
    if not {"cron", "minimum"} <= keys <= KEYS or ("minutes" in keys) == ("until" in keys):
        raise ValueError(
            f"{name}: {one!r} needs cron, minimum, and one of minutes and until; for example "
            "{cron: '0 8 * * 1-5', until: '0 18 * * 1-5', minimum: 6}"
        )
    for key in {"cron", "until"} & set(one):
        try:
            CronSim(str(one[key]), datetime(2000, 1, 1))
        except CronSimError as error:
            raise ValueError(
                f"{name}.{key}: {one[key]!r} is not a cron expression ({error}); give minute, hour, day of month, "
                "month and day of week, such as '0 8 * * 1-5'"
            ) from error
    return Entry(
        cron=str(one["cron"]),
        minimum=_number(one["minimum"], f"{name}.minimum", 1_000_000),
        minutes=_number(one["minutes"], f"{name}.minutes", MOST_MINUTES) if "minutes" in one else 0,
        until=str(one.get("until", "")),
    )


def _number(value: Any, name: str, most: int) -> int:
    text = str(value)
    if isinstance(value, bool) or not text.isascii() or not text.isdigit() or not 1 <= int(text) <= most:
        raise ValueError(f"{name}: {value!r} is not a whole number from 1 to {most}; give one")
    return int(text)


def _last(cron: str, now: datetime) -> datetime | None:
    """When an expression last matched, now included."""
    found: Iterable[datetime] = CronSim(cron, now + timedelta(minutes=1), reverse=True)
    return next((at for at in found if at <= now), None)

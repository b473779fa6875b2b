"""The page as HTML: everything inline, nothing loaded, every text escaped."""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Iterable, Sequence
from html import escape

from phoenix.alerting.messages import lasted
from phoenix.page import plot
from phoenix.page.collect import DAY, Host, Picture

DEPLOYS = 10
SILENT_S = 30.0
WITHOUT_DUMP = 2  # phoenix_backup_oplog_gap_result: since the last gap, nothing can be restored from the oplog
# Reloads the page, and shows when what wrote it has stopped: nothing else on a static page would.
SCRIPT = """\
const written = Number(document.body.dataset.written), limit = 180;
function check() {
  const age = Math.round(Date.now() / 1000 - written), stale = document.getElementById('stale');
  stale.hidden = age < limit;
  stale.textContent = `This page is ${Math.round(age / 60)} minutes old: phoenix-page.timer on control does not run.`;
}
check();
setInterval(check, 10000);
setTimeout(() => location.replace(`${location.pathname}?${Date.now()}`), 60000);
"""
STYLE = """\
:root { color-scheme: light dark; --line: #8884; --good: #1a7f37; --warn: #9a6700; --bad: #cf222e; }
@media (prefers-color-scheme: dark) { :root { --good: #3fb950; --warn: #d29922; --bad: #f85149; } }
* { box-sizing: border-box; }
body { font: 15px/1.45 system-ui, sans-serif; margin: 0 auto; max-width: 72rem; padding: 1rem; }
h1 { font-size: 1.4rem; margin: 0; } h2 { font-size: 1.05rem; margin: 1.6rem 0 .4rem; }
header { display: flex; flex-wrap: wrap; gap: .4rem 1.2rem; align-items: baseline; }
main { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 30rem), 1fr)); gap: 0 2rem; }
main > * { min-width: 0; } .wide { grid-column: 1 / -1; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: .25rem .7rem .25rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
th { font-weight: 600; white-space: nowrap; } td { overflow-wrap: break-word; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.good { color: var(--good); } .warn { color: var(--warn); } .bad { color: var(--bad); } .quiet { opacity: .7; }
.good, .warn, .bad { font-weight: 600; }
.box { border: 1px solid var(--bad); border-radius: 6px; padding: .5rem .8rem; margin: .8rem 0 0; }
figure { margin: 0; } figcaption { margin-top: .2rem; }
svg { display: block; width: 100%; height: auto; } svg text { font-size: 11px; fill: currentColor; }
.grid { stroke: currentColor; stroke-opacity: .18; }
.key { display: inline-flex; align-items: center; gap: .35rem; margin-right: 1rem; }
.key svg { width: 28px; height: 8px; }
"""


def moment(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(at))


def age(seconds: float | None) -> str:
    """An age for people, to two units; "-" where it is not known."""
    return "-" if seconds is None else " ".join(lasted(seconds).split()[:4])


def number(value: float | None, form: str = ".0f") -> str:
    return "-" if value is None else format(value, form)


def cell(text: str, kind: str = "") -> str:
    return f'<td class="{kind}">{escape(text)}</td>' if kind else f"<td>{escape(text)}</td>"


def table(head: Sequence[str], rows: Iterable[Sequence[str]], empty: str) -> str:
    """rows: of cells as HTML."""
    lines = ["".join(row) for row in rows]
    if not lines:
        return f'<p class="quiet">{escape(empty)}</p>'
    titles = "".join(f"<th>{escape(title)}</th>" for title in head)
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return f'<div class="scroll"><table><thead><tr>{titles}</tr></thead><tbody>{body}</tbody></table></div>'


def section(title: str, content: str, kind: str = "") -> str:
    return f'<section class="{kind}"><h2>{escape(title)}</h2>{content}</section>'


def alarms(picture: Picture) -> str:
    rows = [
        (
            cell(event["status"], "bad" if event["status"] == "CRITICAL" else "warn"),
            cell(event["host"]),
            cell(event["info"].partition("|")[0].strip()),
            cell(event["chart"].partition(".")[2]),
            cell(event["value"]),
            cell(age(picture.now - float(event["when"]))),
            cell(event["alarm"], "quiet"),
        )
        for event in picture.alarms
    ]
    head = ("status", "host", "what", "of", "value", "for", "in the runbook")
    return section("Open alarms", table(head, rows, "No alarm is open."), "wide")


def database(host: Host) -> tuple[str, str]:
    """Of a host's member, what to say and how it is; ("", "") where it has none."""
    up, primary = host.value("phoenix_mongodb.member", "up"), host.value("phoenix_mongodb.member", "sees_primary")
    if up is None:
        return "", ""
    if not up:
        return "does not answer", "bad"
    if not primary:
        return "sees no primary", "bad"
    return f"{number(host.value('phoenix_mongodb.lag', 'lag'))} s behind the primary", ""


def fullest(host: Host) -> float | None:
    """Percent used of the host's fullest file system."""
    shares = [
        100 * disk["used"] / (disk["used"] + disk["available"])
        for name, disk in host.charts.items()
        if name.startswith("phoenix_disk.") and disk.get("used", 0) + disk.get("available", 0) > 0
    ]
    return max(shares, default=None)


def fleet(picture: Picture) -> str:
    rows = []
    for host in picture.hosts:
        silent = host.silent > SILENT_S
        said, kind = database(host)
        used = fullest(host)
        rows.append(
            (
                cell(host.name),
                cell(f"silent for {age(host.silent)}", "bad") if silent else cell("heard", "good"),
                cell(number(host.value("phoenix_fleet.instances", "running")), "n"),
                cell(said, kind),
                cell(f"{number(used)} %" if used is not None else "-", "n"),
            )
        )
    content = table(("host", "state", "instances", "database", "fullest disk"), rows, "No host is known.")
    if picture.drained:
        out = "; ".join(f"{server}: {reason}" for server, reason in picture.drained.items())
        content += f'<p class="warn">Out of rotation: {escape(out)}</p>'
    return section("Fleet", content)


def demand(picture: Picture) -> str:
    """The hosts on demand, where there may be any."""
    status = picture.demand
    if not status:
        return ""
    rows = [
        (
            cell(host["name"]),
            cell(host["state"], "good" if host["state"] == "serving" else ""),
            cell(age(picture.now - host["since"])),
            cell(host["address"]),
            cell(host["reason"]),
        )
        for host in status["hosts"]
    ]
    said = f"{status['wanted']} wanted of {status['limit']}, {status['created']} of {status['creations_per_hour']} "
    content = f"<p>{said}creations in the last hour</p>"
    if status["away_seconds"]:
        content += f'<p class="warn">The provider has not answered for {age(status["away_seconds"])}</p>'
    content += "".join(f'<p class="warn">{escape(note["text"])}</p>' for note in status["notes"])
    head = ("host", "state", "for", "address", "why")
    return section("Hosts on demand", content + table(head, rows, "There is none now."))


def figure(title: str, unit: str, lines: Sequence[plot.Line], now: float) -> str:
    drawn = plot.chart(title, unit, lines, now - DAY, now)
    return f"<figure>{drawn}<figcaption>{plot.legend(lines)}</figcaption></figure>"


def backups(picture: Picture) -> str:
    """What can be restored, and whether that was tried."""
    oldest, newest = picture.gauge("backup_oldest_good_age_seconds"), picture.gauge("backup_newest_good_age_seconds")
    dumps = picture.gauge("backup_good_dumps")
    if not dumps or newest is None:
        return section("Restorable", '<p class="bad">No good dump is known.</p>')
    result = picture.gauge("backup_last_result") or 0
    window = f"{number(dumps)} dumps, from {age(oldest)} ago to {age(newest)} ago"
    oplog, cut = picture.gauge("backup_oplog_age_seconds"), picture.gauge("backup_oplog_gap_result") == WITHOUT_DUMP
    if oplog is not None:
        window += f"; the oplog reaches to {age(oplog)} ago" + ", but no good dump has followed its last gap" * cut
    size, documents = picture.gauge("backup_newest_good_bytes"), picture.gauge("backup_newest_good_documents")
    offsite, logs = picture.gauge("backup_offsite_newest_age_seconds"), picture.gauge("backup_logs_oldest_age_seconds")
    rows = [
        ("Restorable", window, "bad" if cut else ""),
        ("Newest", f"{number((size or 0) / 1e6, ',.1f')} MB, {number(documents, ',.0f')} documents", ""),
        ("Last restore on trial", f"{age(newest)} ago, equal to the database at its moment", "good"),
        (
            "Last run",
            "good" if result == 0 else f"not good: see phoenix_backup_result ({number(result)})",
            "" if result == 0 else "bad",
        ),
        ("Off-site", "-" if offsite is None else f"a dump of {age(offsite)} ago", ""),
        ("Logs", "-" if logs is None else f"of every host, the latest {age(logs)} ago or newer", ""),
    ]
    return section("Restorable", table((), ((cell(name), cell(text, kind)) for name, text, kind in rows), ""))


def drills(picture: Picture) -> str:
    """What the drills on a schedule came to, where there are any."""
    if not picture.drills:
        return ""
    kinds = {"good": "good", "failed": "bad"}
    rows = [
        (
            cell(name),
            cell(entry.result or "not yet", kinds.get(entry.result, "")),
            cell(moment(entry.at) if entry.at else "-"),
            cell(f"{entry.seconds:.0f} s" if entry.at else "-", "n"),
            cell(f"{age(picture.now - entry.succeeded)} ago" if entry.succeeded else "never"),
            cell(entry.text),
        )
        for name, entry in sorted(picture.drills.items())
    ]
    head = ("drill", "result", "ended", "took", "last success", "what was seen")
    return section("Drills", table(head, rows, ""), "wide")


def releases(picture: Picture) -> str:
    kinds = {"good": "good", "rolled back": "warn", "failed": "bad"}
    rows = [
        (
            cell(moment(deploy.began)),
            cell(deploy.what),
            cell(deploy.version),
            cell(deploy.result or "not ended", kinds.get(deploy.result, "warn")),
            cell(f"{deploy.seconds:.0f} s", "n"),
            cell(deploy.who),
            cell(deploy.reason),
        )
        for deploy in picture.history[:DEPLOYS]
    ]
    serving = f"<p>Serving: <strong>{escape(picture.release or 'no release is recorded')}</strong></p>"
    head = ("began", "what", "release", "result", "took", "by", "why")
    return section("Releases", serving + table(head, rows, "No deploy is recorded."), "wide")


def verdict(picture: Picture) -> str:
    if picture.problems:
        return '<span class="bad">This page is incomplete</span>'
    critical = sum(event["status"] == "CRITICAL" for event in picture.alarms)
    if not picture.alarms:
        return '<span class="good">No alarm is open</span>'
    return (
        f'<span class="{"bad" if critical else "warn"}">{len(picture.alarms)} open, {critical} of them critical</span>'
    )


def page(picture: Picture) -> str:
    digest = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src 'sha256-{digest}'"
    problems = "".join(f"<li>{escape(problem)}</li>" for problem in picture.problems)
    rate, capacity = ("Requests a second", "1/s"), ("Instances", "number")
    return "".join(
        [
            '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f'<title>Phoenix</title><link rel="icon" href="data:,"><style>{STYLE}</style></head>',
            f'<body data-written="{picture.now:.0f}"><header><h1>Phoenix</h1>{verdict(picture)}',
            f'<span class="quiet">as of {moment(picture.now)}</span></header>',
            '<p id="stale" class="box bad" hidden></p>',
            f'<div class="box"><ul>{problems}</ul></div>' if problems else "",
            "<main>",
            alarms(picture),
            section("Requests a second, of the last day", figure(*rate, picture.rate, picture.now)),
            section("Capacity, of the last day", figure(*capacity, picture.capacity, picture.now)),
            fleet(picture),
            # One cell: beside the fleet, which is longer than either.
            f"<div>{backups(picture)}{demand(picture)}</div>",
            drills(picture),
            releases(picture),
            f"</main><script>{SCRIPT}</script></body></html>\n",
        ]
    )

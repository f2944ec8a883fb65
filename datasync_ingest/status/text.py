"""A status as lines for people."""

from __future__ import annotations

import time
from collections.abc import Sequence

from ..ledger.standing import LastRun, Standing
from ..output import table
from ..postgres.contents import Contents, Group
from ..units import show_bytes, show_seconds
from .state import ACTIVE, ENDED, KILLED, STARTING, Status

Line = tuple[str, str]  # a style of `Output.styled`, empty for none, and the text
_Rows = list[tuple[str, str]]

_MOST_TYPES, _MOST_DAYS, _MOST_REASONS, _MOST_POISONED = 20, 62, 10, 5
_BAR = 30  # characters
_NAME_WIDTH = 14
_AWAY = "without a type"
_TIMELESS = "without a time"


def lines(status: Status) -> list[Line]:
    """What matters most comes first: a screen may cut the rest off."""
    found = _run(status)
    found += _section("Sidecar", _sidecar(status))
    found += _section(f"Table ({status.table.name})", _table(status))
    if status.table.contents is not None:
        found += _groups("Events by type", status.table.contents.by_type, _AWAY, _MOST_TYPES, keep_last=False)
        found += _groups("Events by day (UTC)", status.table.contents.by_day, _TIMELESS, _MOST_DAYS, keep_last=True)
    return [(style, _printable(text)) for style, text in found]


def _section(title: str, rows: _Rows | list[Line]) -> list[Line]:
    return [("", ""), ("title", title), *rows]


def _named(rows: _Rows) -> list[Line]:
    return [("", line) for line in table([(name.ljust(_NAME_WIDTH), text) for name, text in rows])]


# --- the run ---


def _run(status: Status) -> list[Line]:
    state, run = status.run_state, status.sidecar.last_run if status.sidecar is not None else None
    if state == ACTIVE and run is not None:
        head: list[Line] = [("ok", f"Run {run.run} is active: {status.holder}.")]
    elif state == STARTING:
        head = [("ok", f"A run is starting: {status.holder}.")]
    elif status.holder is not None:
        head = [("ok", f"The data directory is in use by {status.holder}."), *_last(status, run)]
    else:
        head = [("", "No run is active."), *_last(status, run)]
    return [*head, *_named(_progress(status)), *_named(_requests(run) if state != STARTING else [])]


def _last(status: Status, run: LastRun | None) -> list[Line]:
    if run is None:
        words = f"Nothing was ingested into {status.data_dir} yet: bin/ingest begins."
        return [] if status.sidecar_error is not None else [("", words)]
    if status.run_state == KILLED:
        seen = max(run.begun_at, run.sample.at if run.sample is not None else 0.0)
        return [
            (
                "FAIL",
                f"The last run, {run.run}, was killed: it began at {_moment(run.begun_at)}, its last sign of life is of"
                f" {_moment(seen)}. bin/ingest goes on from there.",
            )
        ]
    assert status.run_state == ENDED and run.ended_at is not None, "what neither runs nor was killed has ended"  # noqa: PT018
    took = show_seconds(run.ended_at - run.begun_at)
    words = f"The last run, {run.run}, ended at {_moment(run.ended_at)} after {took}, exit code {run.exit_code}:"
    onward = "" if run.exit_code == 0 else " bin/ingest goes on from there."
    return [("ok" if run.exit_code == 0 else "warn", f"{words} {_sentence(run.ending)}{onward}")]


def _progress(status: Status) -> _Rows:
    progress = status.progress
    if progress is None:
        return []
    of = "" if progress.total is None else f" of {progress.total:,}"
    share = "" if progress.share is None else f"{100 * progress.share:.1f} %, "
    rows = [("progress", f"{share}{progress.events:,}{of} events are in the table")]
    if progress.rate is not None:
        lately = "" if progress.rate_lately is None else f", {progress.rate_lately:,.0f} in the last minute"
        rows.append(("rate", f"{progress.rate:,.0f} events/s{lately}"))
    if status.run_state == ACTIVE:
        rows.append(("time left", "not known" if progress.left_s is None else show_seconds(progress.left_s)))
    if progress.waiting:
        rows.append(("waits for", progress.waiting))
    if progress.queue is not None:
        rows.append(("queue", f"{progress.queue:,} pages fetched and not yet committed"))
    if progress.requests_left is not None:
        rows.append(("requests left", f"{progress.requests_left:,} in this window"))
    if progress.as_of is not None:
        rows.append(("as of", f"{show_seconds(status.at - progress.as_of)} ago"))
    return rows


def _requests(run: LastRun | None) -> _Rows:
    if run is None or not (run.requests or run.warnings):
        return []
    rows = [("requests", _counts(list(run.requests.items())))] if run.requests else []
    if run.last_warning is not None:
        rows.append(
            ("warnings", f"{run.warnings:,}, the last at {_moment(run.last_warning.at)}: {run.last_warning.message}")
        )
    return rows


# --- the sidecar ---


def _sidecar(status: Status) -> list[Line]:
    if status.sidecar_error is not None:
        return [("FAIL", f"  {status.sidecar_error}"), ("FAIL", f"  {status.sidecar_error.hint}")]
    if status.sidecar is None:
        return [("", f"  There is none in {status.data_dir} yet.")]
    sidecar = status.sidecar
    rows = [
        ("file", str(sidecar.path)),
        ("source", str(sidecar.facts.get("source") or "not known yet")),
        ("key", _key(status)),
        ("walks", ", ".join(f"{count:,} {state}" for state, count in sidecar.walks.items()) or "none"),
        ("pages", _pages(sidecar)),
        *_poisoned(sidecar),
        ("their events", _books(sidecar)),
        *_handed_in(sidecar),
    ]
    if not sidecar.has_history:
        rows.append(("history", "none: an older version made this sidecar; the next bin/ingest begins to keep it"))
    return _named(rows)


def _key(status: Status) -> str:
    key = status.key
    if key is None:
        return "no call was made with it yet"
    left_s, whose = key.ends_at - status.at, "" if key.is_ours is not False else "; it is not the key of the settings"
    if left_s <= 0:
        return f"is past its 3 hours, which ended at {_moment(key.ends_at)}{whose}"
    return f"ends in {show_seconds(left_s)}, at {_moment(key.ends_at)}, 3 hours after its first call{whose}"


def _pages(sidecar: Standing) -> str:
    spool = sidecar.spool
    size = f" ({show_bytes(spool.size)})" if spool.size else ""
    return (
        f"{sidecar.pages.completed:,} completed, {spool.waiting:,} in the spool, {len(spool.poisoned):,} poisoned{size}"
    )


def _poisoned(sidecar: Standing) -> _Rows:
    found = sidecar.spool.poisoned
    rows = [("", f"{one.page} ({one.received:,} events): {one.reason}") for one in found[:_MOST_POISONED]]
    if len(found) > _MOST_POISONED:
        rows.append(("", f"and {len(found) - _MOST_POISONED:,} more; --json names them all"))
    if found:
        rows.append(("", "bin/ingest --retry-poisoned tries them once more"))
    return rows


def _books(sidecar: Standing) -> str:
    counts = sidecar.pages.counts
    return (
        f"{counts.received:,} received = {counts.inserted:,} inserted + {counts.already_there:,} already there"
        f" + {counts.rejected:,} rejected; {counts.repaired:,} repaired"
    )


def _handed_in(sidecar: Standing) -> _Rows:
    rows = []
    if (export := sidecar.export) is not None:
        text = f"{_moment(export.exported_at)}: {export.ids:,} IDs, {export.path}, SHA-256 {export.sha256}"
        rows.append(("last export", text))
    for one in sidecar.submissions:
        ending = "not known whether it arrived" if one.ended_at is None else f"answered {one.status}"
        rows.append(
            ("submission", f"{_moment(one.intended_at)}: {one.ids:,} IDs for {one.github_repo}, {ending}"),
        )
    return rows


# --- the database ---


def _table(status: Status) -> list[Line]:
    seen, contents = status.table, status.table.contents
    if contents is None:
        hint = [("FAIL", f"  {seen.error.hint}")] if seen.error is not None and seen.error.hint else []
        return [("FAIL" if seen.error is not None else "", f"  {seen.why}"), *hint]
    rows = [*_held(contents), *(("not told", sentence) for sentence in contents.untold)]
    if status.at - seen.at >= 1:
        rows.append(("as of", f"{show_seconds(status.at - seen.at)} ago"))
    found = _named(rows)
    if status.is_another_database:
        found.insert(0, ("FAIL", "  It is another database than the one that the sidecar belongs to."))
    return found


def _held(contents: Contents) -> _Rows:
    rows = [] if contents.events is None else [("events", f"{contents.events:,}")]
    if contents.sizes is not None:
        sizes = contents.sizes
        rows.append(
            (
                "size",
                f"{show_bytes(sizes.events + sizes.index)}, of which the index {show_bytes(sizes.index)};"
                f" pages, rejects and repairs {show_bytes(sizes.books)}",
            )
        )
    if contents.rejected is not None:
        rows += _reasons("rejected", contents.rejected, sum(count for _, count in contents.rejected))
    if contents.repaired is not None and contents.repaired_events is not None:
        rows += _reasons("repaired", contents.repaired, contents.repaired_events)
    return rows


def _reasons(name: str, reasons: Sequence[Group], total: int) -> _Rows:
    rows = [(name, f"{total:,}")]
    shown = [(f"{count:,}", reason) for reason, count in reasons[:_MOST_REASONS]]
    rows += [("", line) for line in table(shown, right=(0,), indent="")]
    if len(reasons) > _MOST_REASONS:
        rows.append(("", f"and {len(reasons) - _MOST_REASONS:,} more reasons; --json names them all"))
    return rows


def _groups(title: str, groups: list[Group] | None, nameless: str, most: int, *, keep_last: bool) -> list[Line]:
    if not groups:
        return []
    shown = groups[-most:] if keep_last else groups[:most]
    largest = max(count for _, count in groups)
    rows = [(name or nameless, f"{count:,}", "#" * round(_BAR * count / largest)) for name, count in shown]
    found = [("", line) for line in table(rows, right=(1,))]
    if len(groups) > len(shown):
        found.append(("", f"  and {len(groups) - len(shown):,} more; --json names them all"))
    return _section(title, found)


# --- words ---


def _counts(counts: Sequence[Group]) -> str:
    total = sum(count for _, count in counts)
    return f"{total:,} ({', '.join(f'{name} {count:,}' for name, count in counts)})"


def _sentence(text: str | None) -> str:
    """`complete` is an ending as well."""
    words = " ".join((text or "no word of how").split())
    return words if words.endswith((".", "!", "?")) else f"{words}."


def _moment(at: float) -> str:
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))
    except (OverflowError, ValueError, OSError):
        return "an unknown time"


def _printable(text: str) -> str:
    """What the API has named itself must not speak to the terminal."""
    return "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in text)

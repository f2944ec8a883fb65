"""Rows as COPY's text format has them: a line a row, tabs between the columns, `\\N` for NULL.

https://www.postgresql.org/docs/current/sql-copy.html#SQL-COPY-FILE-FORMATS
"""

from __future__ import annotations

from collections.abc import Sequence

_NULL = "\\N"
_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})


def copy_text(rows: Sequence[Sequence[str | None]]) -> bytes:
    """UTF-8; empty for no rows. Raises UnicodeEncodeError for half of a surrogate pair."""
    text = _unescaped(rows)
    return (text if _is_plain(text, rows) else _escaped(rows)).encode()


def _unescaped(rows: Sequence[Sequence[str | None]]) -> str:
    lines = ["\t".join([_NULL if value is None else value for value in row]) for row in rows]
    lines.append("")
    return "\n".join(lines)


def _is_plain(text: str, rows: Sequence[Sequence[str | None]]) -> bool:
    """Whether no value holds what must be escaped, told by counting once over all rows: most pages have none."""
    columns = len(rows[0]) if rows else 0
    return (
        text.count("\n") == len(rows)
        and text.count("\t") == len(rows) * (columns - 1)
        and text.count("\\") == sum([row.count(None) for row in rows])
        and "\r" not in text
    )


def _escaped(rows: Sequence[Sequence[str | None]]) -> str:
    lines = ["\t".join([_NULL if value is None else value.translate(_ESCAPES) for value in row]) for row in rows]
    lines.append("")
    return "\n".join(lines)

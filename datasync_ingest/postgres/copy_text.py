"""Rows as COPY's text format has them: a line a row, tabs between the columns, `\\N` for NULL.

https://www.postgresql.org/docs/current/sql-copy.html#SQL-COPY-FILE-FORMATS
"""

from __future__ import annotations

from collections.abc import Sequence

from ..rows import Column, Rows

_NULL = "\\N"
_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})


def copy_text(rows: Rows) -> bytes:
    """UTF-8; empty for no rows. Raises UnicodeEncodeError for half of a surrogate pair."""
    nulls = [column.count(None) for column in rows.columns]
    text = _joined(rows, [_without_null(column, count) for column, count in zip(rows.columns, nulls, strict=True)])
    if not (rows.is_plain or _is_plain(text, len(rows), len(nulls), sum(nulls))):
        text = _joined(rows, [_escaped(column) for column in rows.columns])
    return text.encode()


def _without_null(column: Column, nulls: int) -> Sequence[str]:
    if nulls == len(column):
        return [_NULL] * nulls
    return [_NULL if value is None else value for value in column] if nulls else column  # type: ignore[return-value]


def _escaped(column: Column) -> Sequence[str]:
    return [_NULL if value is None else value.translate(_ESCAPES) for value in column]


def _joined(rows: Rows, columns: Sequence[Sequence[str]]) -> str:
    lines = rows.in_order(map("\t".join, zip(*columns, strict=True)))
    lines.append("")
    return "\n".join(lines)


def _is_plain(text: str, rows: int, columns: int, nulls: int) -> bool:
    """Whether no value holds what must be escaped, told by counting once over all rows: most pages have none."""
    return (
        text.count("\n") == rows
        and text.count("\t") == rows * (columns - 1)
        and text.count("\\") == nulls
        and "\r" not in text
    )

"""Statements as PostgreSQL's own parser reads them, and what can be asked of the trees."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import postgast
from google.protobuf.json_format import MessageToDict

Tree = dict[str, Any]


def parsed(text: str) -> list[tuple[str, Tree]]:
    """Kind and tree of each statement of the text: `("insert_stmt", {...})`."""
    found = MessageToDict(postgast.parse(text), preserving_proto_field_name=True)
    return [next(iter(one["stmt"].items())) for one in found["stmts"]]


def nodes(tree: Any, kind: str) -> Iterator[Any]:
    """Every node of this kind in the tree, at any depth."""
    if isinstance(tree, dict):
        for name, value in tree.items():
            if name == kind:
                yield value
            yield from nodes(value, kind)
    elif isinstance(tree, list):
        for value in tree:
            yield from nodes(value, kind)


def relations(kind: str, tree: Tree) -> Iterator[tuple[str, str]]:
    """Schema (empty: none is named) and name of every table that a statement names, CTEs of its own aside."""
    own = {cte["ctename"] for cte in nodes(tree, "common_table_expr")}
    for one in _range_vars({kind: tree}):
        name = one.get("schemaname", ""), one["relname"]
        if name[0] or name[1] not in own:
            yield name


def _range_vars(tree: Any) -> Iterator[Tree]:
    """A table stands as `range_var` in FROM and bare, as `relation`, in INSERT, UPDATE, DELETE, COPY and CREATE."""
    if isinstance(tree, dict):
        if "relname" in tree and "relpersistence" in tree:
            yield tree
        for value in tree.values():
            yield from _range_vars(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from _range_vars(value)


def names(tree: Any, table: str) -> bool:
    """Whether the table is named anywhere in the tree."""
    return any(one["relname"] == table for one in _range_vars(tree))


def target(tree: Tree) -> str:
    """The table that a statement writes to or makes; empty for none."""
    found = tree.get("relation", {})
    return str(found.get("relname", "")) if isinstance(found, dict) else ""


def strings(tree: Any) -> list[str]:
    return [one["sval"] for one in nodes(tree, "string")]


def functions(tree: Any) -> set[str]:
    return {strings(call["funcname"])[-1] for call in nodes(tree, "func_call")}


def columns(tree: list[Any]) -> list[str]:
    """The names of `res_target`s: the columns of an INSERT, or those that a SET sets."""
    return [one["name"] for one in nodes(tree, "res_target") if "name" in one]

"""One function a rule: what Citus refuses of `ingested_events` distributed by `id`, with the place that says so.

A rule looks at one statement and returns whether it is refused. The other tables are local to the coordinator.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.citus.statements import Tree, columns, functions, names, nodes, parsed, strings, target

DISTRIBUTED, COLUMN = "ingested_events", "id"
TEMPORARY = "staged_events"

DDL = "https://docs.citusdata.com/en/stable/develop/reference_ddl.html"
DML = "https://docs.citusdata.com/en/stable/develop/reference_dml.html"
SQL = "https://docs.citusdata.com/en/stable/develop/reference_workarounds.html#limitations"
TRIGGERS = "https://docs.citusdata.com/en/stable/extra/triggers.html"
ERRORS = "https://docs.citusdata.com/en/stable/reference/common_errors.html"

Rule = Callable[[str, Tree], bool]
RULES: dict[str, tuple[str, Rule]] = {}

_VOLATILE = {"random", "clock_timestamp", "timeofday", "gen_random_uuid", "nextval", "setval"}
_STABLE = {"now", "current_setting", "to_char", "to_timestamp", "age"}
_SMALL_SEQUENCES = {"serial", "serial4", "smallserial", "serial2"}
_UNIQUE = ("CONSTR_PRIMARY", "CONSTR_UNIQUE", "CONSTR_EXCLUSION")


def refused(text: str) -> list[tuple[str, str]]:
    """The rule that each statement of the text breaks, and where it is said."""
    return [
        (name, source)
        for kind, tree in parsed(text)
        for name, (source, rule) in RULES.items()
        if names({kind: tree}, DISTRIBUTED) and rule(kind, tree)
    ]


def _rule(name: str, source: str) -> Callable[[Rule], Rule]:
    def add(rule: Rule) -> Rule:
        RULES[name] = source, rule
        return rule

    return add


# --- the table ---


@_rule("a unique constraint or index has the distribution column among its columns", DDL)
def _unique(kind: str, tree: Tree) -> bool:
    if kind == "index_stmt":
        keys = {one.get("name") for one in nodes(tree.get("index_params"), "index_elem")}
        return bool(tree.get("unique")) and target(tree) == DISTRIBUTED and COLUMN not in keys
    if kind not in ("create_stmt", "alter_table_stmt") or target(tree) != DISTRIBUTED:
        return False
    of_columns = [
        ([definition["colname"]], constraint)
        for definition in nodes(tree, "column_def")
        for constraint in nodes(definition, "constraint")
    ]
    of_table = [(strings(one.get("keys", [])), one) for one in nodes(tree, "constraint") if "keys" in one]
    return any(one["contype"] in _UNIQUE and COLUMN not in keys for keys, one in [*of_columns, *of_table])


@_rule("no foreign key joins a distributed and a local table", DDL)
def _foreign_key(kind: str, tree: Tree) -> bool:
    del kind
    return any(one["contype"] == "CONSTR_FOREIGN" for one in nodes(tree, "constraint"))


@_rule("the type of the distribution column stays", DDL)
def _type_of_column(kind: str, tree: Tree) -> bool:
    changes = ("AT_AlterColumnType", "AT_DropColumn")
    commands = nodes(tree, "alter_table_cmd")
    return kind == "alter_table_stmt" and any(c["subtype"] in changes and c.get("name") == COLUMN for c in commands)


@_rule("a sequence is of bigint", SQL)
def _sequence(kind: str, tree: Tree) -> bool:
    definitions = list(nodes(tree, "column_def"))
    types = {name for one in definitions for name in strings(one.get("type_name", {}))}
    identities = [one for one in definitions for c in nodes(one, "constraint") if c["contype"] == "CONSTR_IDENTITY"]
    small = any("int8" not in strings(one["type_name"]) for one in identities)
    return kind == "create_stmt" and target(tree) == DISTRIBUTED and (bool(types & _SMALL_SEQUENCES) or small)


@_rule("no rule", SQL)
def _rule_of_rewriting(kind: str, tree: Tree) -> bool:
    return kind == "rule_stmt" and target(tree) == DISTRIBUTED


@_rule("no trigger", TRIGGERS)
def _trigger(kind: str, tree: Tree) -> bool:
    return kind == "create_trig_stmt" and target(tree) == DISTRIBUTED


@_rule("it is no temporary, unlogged, inherited or partitioned table", SQL)
def _plain(kind: str, tree: Tree) -> bool:
    if kind != "create_stmt" or target(tree) != DISTRIBUTED:
        return False
    return tree["relation"]["relpersistence"] != "p" or "inh_relations" in tree or "partspec" in tree


# --- what is written ---


@_rule("an INSERT gives the distribution column, and it is not NULL", DML)
def _insert_without_column(kind: str, tree: Tree) -> bool:
    if kind != "insert_stmt" or target(tree) != DISTRIBUTED:
        return False
    given = columns(tree.get("cols", []))
    if COLUMN not in given:
        return True
    place = given.index(COLUMN)
    rows = [one["list"]["items"] for one in tree["select_stmt"]["select_stmt"].get("values_lists", [])]
    return any(row[place].get("a_const", {}).get("isnull") or "set_to_default" in row[place] for row in rows)


@_rule("the values of an INSERT hold no subquery", SQL)
def _subquery_in_values(kind: str, tree: Tree) -> bool:
    if kind != "insert_stmt" or target(tree) != DISTRIBUTED:
        return False
    return any(True for _ in nodes(tree["select_stmt"]["select_stmt"].get("values_lists", []), "sub_link"))


@_rule("ON CONFLICT is about the distribution column", DDL)
def _conflict_target(kind: str, tree: Tree) -> bool:
    clause = tree.get("on_conflict_clause")
    if kind != "insert_stmt" or target(tree) != DISTRIBUTED or clause is None:
        return False
    about = {one.get("name") for one in nodes(clause.get("infer", {}), "index_elem")}
    return bool(about) and COLUMN not in about


@_rule("nothing sets the distribution column of a row that is there", DDL)
def _column_is_set(kind: str, tree: Tree) -> bool:
    if target(tree) != DISTRIBUTED:
        return False
    if kind == "update_stmt":
        return COLUMN in columns(tree["target_list"])
    clause = tree.get("on_conflict_clause", {})
    return kind == "insert_stmt" and COLUMN in columns(clause.get("target_list", []))


@_rule("UPDATE and DELETE call no volatile function, nor UPDATE a stable one", SQL)
def _functions_of_changes(kind: str, tree: Tree) -> bool:
    if target(tree) != DISTRIBUTED:
        return False
    changed: Any = tree.get("on_conflict_clause", {}) if kind == "insert_stmt" else tree
    called = functions(changed)
    stable = called & _STABLE or any(True for _ in nodes(changed, "sqlvalue_function"))
    changes = kind in ("update_stmt", "insert_stmt")
    return bool((changes or kind == "delete_stmt") and called & _VOLATILE) or bool(changes and stable)


@_rule("a local table is not filled out of a distributed one", ERRORS)
def _local_from_distributed(kind: str, tree: Tree) -> bool:
    return kind == "insert_stmt" and target(tree) != DISTRIBUTED and names(tree["select_stmt"], DISTRIBUTED)


@_rule("MERGE has no local source", SQL)
def _merge(kind: str, tree: Tree) -> bool:
    return kind == "merge_stmt" and target(tree) == DISTRIBUTED


@_rule("an INSERT ... SELECT returns nothing and has no CTE", ERRORS)
def _insert_select(kind: str, tree: Tree) -> bool:
    if kind != "insert_stmt" or target(tree) != DISTRIBUTED or "values_lists" in tree["select_stmt"]["select_stmt"]:
        return False
    return "returning_list" in tree or "returning_clause" in tree or "with_clause" in tree


# --- what is read ---


@_rule("no TABLESAMPLE", SQL)
def _sample(kind: str, tree: Tree) -> bool:
    del kind
    return any(names(one, DISTRIBUTED) for one in nodes(tree, "range_table_sample"))


@_rule("no SELECT ... FOR UPDATE", SQL)
def _for_update(kind: str, tree: Tree) -> bool:
    del kind
    return any(True for _ in nodes(tree, "locking_clause"))


@_rule("no recursive and no modifying CTE", SQL)
def _ctes(kind: str, tree: Tree) -> bool:
    del kind
    return any(one.get("recursive") for one in nodes(tree, "with_clause")) or any(
        name in one["ctequery"]
        for one in nodes(tree, "common_table_expr")
        for name in ("insert_stmt", "update_stmt", "delete_stmt", "merge_stmt")
    )


@_rule("grouping sets are over the rows of a materialized CTE", SQL)
def _grouping_sets(kind: str, tree: Tree) -> bool:
    del kind
    if not any(True for _ in nodes(tree, "grouping_set")):
        return False
    ctes = list(nodes(tree, "common_table_expr"))
    apart = [one["ctequery"] for one in ctes if one.get("ctematerialized") == "CTEMaterializeAlways"]
    return sum(_tables(one) for one in apart) < _tables(tree) or any(
        True for one in apart for _ in nodes(one, "grouping_set")
    )


def _tables(tree: Any) -> int:
    return sum(one.get("relname") == DISTRIBUTED for one in nodes(tree, "range_var"))


@_rule("a subquery over it stands in FROM, and does not look out", SQL)
def _subqueries(kind: str, tree: Tree) -> bool:
    del kind
    laterals = [one for one in nodes(tree, "range_subselect") if one.get("lateral")]
    return any(names(one, DISTRIBUTED) for one in [*nodes(tree, "sub_link"), *laterals])

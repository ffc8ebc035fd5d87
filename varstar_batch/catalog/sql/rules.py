"""What a person's SQL may name: the catalog, its runs, and functions that compute; nothing of the machine.

DuckDB has no switch for its views and functions of settings, paths and secrets, so a query is read as DuckDB's own
parser reads it, and every table and function that it names is looked up here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import duckdb

from varstar_batch.errors import InputError

TABLE_FUNCTIONS = {"catalog_at", "unnest", "range", "generate_series", "repeat", "repeat_row", "json_each", "json_tree"}
"""Functions that may stand where a table does; others read files, settings, or SQL out of a text."""

FORBIDDEN_FUNCTIONS = {"current_setting", "getenv", "getvariable", "write_log", "pg_get_viewdef", "which_secret"}
"""Functions that read, or write, something other than their arguments."""

LONGEST = 200_000
"""Characters of a query."""


def check_select(connection: duckdb.DuckDBPyConnection, sql: str) -> None:
    """Let a text pass that is one SELECT over the catalog.

    Raises
    ------
    InputError
        It is more than one statement, no SELECT (WITH, VALUES, FROM, DESCRIBE and SUMMARIZE count as such), too long,
        or names a table or a function that is no business of a query.
    duckdb.Error
        It is no SQL.
    """
    if len(sql) > LONGEST:
        raise InputError(
            expected=f"at most {LONGEST:,} characters", got=f"{len(sql):,}", where="SQL", fix="ask a shorter question"
        )
    statements = connection.extract_statements(sql)
    if len(statements) != 1:
        raise InputError(
            expected="one SELECT", got=f"{len(statements)} statements", where="SQL", fix="ask one question at a time"
        )
    try:
        kind = statements[0].type
    except ValueError:  # a kind of statement that DuckDB's Python module has no name for
        kind = duckdb.StatementType.INVALID
    if kind != duckdb.StatementType.SELECT:
        raise InputError(
            expected="a SELECT: catalogs are read-only", got=kind.name, where="SQL", fix="write the result with --out"
        )
    _check_names(connection, sql)


def _check_names(connection: duckdb.DuckDBPyConnection, sql: str) -> None:
    ((text,),) = connection.execute("SELECT json_serialize_sql(?::VARCHAR)", [sql]).fetchall()
    try:
        tree = json.loads(text)
    except RecursionError:
        raise InputError(
            expected="a query nested less deeply", got="parentheses in parentheses", where="SQL", fix="ask more simply"
        ) from None
    if tree["error"]:
        raise _forbidden(str(tree["error_message"]))
    nodes = list(_nodes(tree["statements"]))
    tables = {"catalog"} | {str(entry["key"]).lower() for node in nodes for entry in _common_tables(node)}
    for node in nodes:
        kind = node.get("type")
        path = [str(part).lower() for part in (node.get("qualified_name") or {}).get("path", [])]
        name = ".".join(path)
        if kind == "BASE_TABLE" and name not in tables:
            raise _forbidden(f"a table {name}")
        if kind == "SHOW_REF" and not node["query"]:
            raise _forbidden(f"SHOW {name}")
        if kind == "TABLE_FUNCTION" and str(node["function"].get("function_name")).lower() not in TABLE_FUNCTIONS:
            raise _forbidden(f"{node['function'].get('function_name')}()")
        if node.get("class") == "FUNCTION" and path and path[-1] in FORBIDDEN_FUNCTIONS:
            raise _forbidden(f"{name}()")


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            yield node
            waiting.extend(node.values())
        elif isinstance(node, list):
            waiting.extend(node)


def _common_tables(node: dict[str, Any]) -> list[dict[str, Any]]:
    named = node.get("cte_map")
    return named["map"] if isinstance(named, dict) else []


def _forbidden(got: str) -> InputError:
    return InputError(
        expected="the tables `catalog` and catalog_at('run'), and functions that compute",
        got=got,
        where="SQL",
        fix="a query can read nothing but the catalog",
    )

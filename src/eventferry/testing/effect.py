"""What a handler has brought about: the rows of a database, counted, so that runs can be compared.

Left out is what PostgreSQL fills differently each time: generated columns and identities, columns
whose default is a sequence, a time or a random value, and columns that refer to such a one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import psycopg
from psycopg import sql

Effects = Mapping[str, Counter[str]]
"""Rows and how often they are there, by what they are in."""

STREAM_COLUMNS = ("type", "entity_id", "version", "data", "metadata")
"""What makes an event; its id and position are new each time, and so is its trace."""
WITHOUT_TRACE = " #- '{metadata,traceparent}' #- '{metadata,tracestate}'"

# Functions of a default are named in its tree; whatever is not immutable may differ each time.
COLUMNS = """
SELECT n.nspname, c.relname, a.attname,
       a.attidentity <> '' OR a.attgenerated <> ''
       OR coalesce(d.adbin::text ~ 'SQLVALUEFUNCTION|NEXTVALUEEXPR', false)
       OR EXISTS (SELECT FROM regexp_matches(d.adbin::text, ':(?:op)?funcid (\\d+)', 'g') AS f(id)
                    JOIN pg_proc p ON p.oid = f.id[1]::oid AND p.provolatile <> 'i') AS varies
  FROM pg_class c
  JOIN pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
  LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
 WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't'
   AND (n.nspname = 'streams' OR NOT c.relispartition)
   AND n.nspname NOT IN ('eventferry', 'information_schema') AND n.nspname !~ '^pg_'
 ORDER BY n.nspname, c.relname, a.attnum
"""
REFERENCES = """
SELECT n.nspname, c.relname, a.attname, fn.nspname, fc.relname, fa.attname
  FROM pg_constraint k
  JOIN pg_class c ON c.oid = k.conrelid
  JOIN pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_class fc ON fc.oid = k.confrelid
  JOIN pg_namespace fn ON fn.oid = fc.relnamespace
 CROSS JOIN LATERAL unnest(k.conkey, k.confkey) AS pair(own, other)
  JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = pair.own
  JOIN pg_attribute fa ON fa.attrelid = fc.oid AND fa.attnum = pair.other
 WHERE k.contype = 'f'
"""
Table = tuple[str, str]
Column = tuple[str, str, str]


def effects_in(url: str, chosen: str | Callable[[], Iterable[Any]] | None) -> Effects:
    """The effects that are there: in all tables, in the rows of a query, or what a function says.

    Args:
        url: Of the local store.
        chosen: A query, or a function, whose answer stands for the effects; None: all tables.
    """
    if callable(chosen):
        return {"effects": Counter(map(repr, chosen()))}
    with psycopg.connect(url) as conn:
        if chosen is not None:
            return {"effects": Counter(map(repr, conn.execute(chosen.encode()).fetchall()))}
        return {
            ".".join(table): _rows(conn, table, columns) for table, columns in _tables(conn).items()
        }


def differences(expected: Effects, found: Effects) -> list[str]:
    """What was found more often than expected, or less; a line each."""
    lines = []
    for place in sorted({*expected, *found}):
        before, after = expected.get(place, Counter()), found.get(place, Counter())
        for row in sorted({*before, *after}):
            was, now = before[row], after[row]
            if now != was:
                what = "lost" if now < was else "doubled" if was else "added"
                lines.append(f"{what} in {place}: {row} (expected {was}, found {now})")
    return lines


def _tables(conn: psycopg.Connection[Any]) -> dict[Table, list[str]]:
    """The columns to compare, by table; there may be none left, and rows are counted."""
    columns = conn.execute(COLUMNS).fetchall()
    varying: set[Column] = {
        (schema, table, column) for schema, table, column, varies in columns if varies
    }
    references = [
        ((own[0], own[1], own[2]), (own[3], own[4], own[5]))
        for own in conn.execute(REFERENCES).fetchall()
    ]
    while more := {own for own, other in references if other in varying} - varying:
        varying |= more
    tables: dict[Table, list[str]] = {}
    for schema, table, column, _ in columns:
        kept = tables.setdefault((schema, table), [])
        if schema == "streams":
            is_kept = column in STREAM_COLUMNS
        else:
            is_kept = column is not None and (schema, table, column) not in varying
        if is_kept:
            kept.append(column)
    return tables


def _rows(conn: psycopg.Connection[Any], table: Table, columns: list[str]) -> Counter[str]:
    statement = sql.SQL(
        "SELECT (to_jsonb(kept){})::text, count(*) FROM (SELECT {} FROM {}) AS kept GROUP BY 1"
    ).format(
        sql.SQL(WITHOUT_TRACE if table[0] == "streams" else ""),
        sql.SQL(", ").join(map(sql.Identifier, columns)),
        sql.Identifier(*table),
    )
    return Counter(dict(conn.execute(statement).fetchall()))

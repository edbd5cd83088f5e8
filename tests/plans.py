"""How PostgreSQL executes a statement that is planned for any parameters, as `browse` has it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from typing import Any

from psycopg import sql

_numbers = count(1)


def statements(statement: str, parameters: Sequence[Any] | Mapping[str, Any]) -> list[sql.Composed]:
    """What prepares it, and what executes it and says how; $1, %s and %(name)s are parameters.

    To be executed in a transaction in which plans are made for any parameters. EXPLAIN of the
    statement itself would plan it for these.
    """
    if isinstance(parameters, Mapping):
        used = list(dict.fromkeys(re.findall(r"%\((\w+)\)s", statement)))
        statement = re.sub(r"%\((\w+)\)s", lambda found: f"${used.index(found[1]) + 1}", statement)
        values = [parameters[name] for name in used]
    else:
        values = list(parameters)
        for number, _ in enumerate(values, 1):
            statement = statement.replace("%s", f"${number}", 1)
    name = sql.Identifier(f"looked {next(_numbers)}")
    given = sql.SQL(", ").join(map(sql.Literal, values))
    return [
        sql.SQL("PREPARE {} AS {}").format(name, sql.SQL(statement)),  # type: ignore[arg-type,unused-ignore]
        sql.SQL("EXPLAIN (ANALYZE, FORMAT JSON) EXECUTE {}{}").format(
            name, sql.SQL("({})").format(given) if values else sql.SQL("")
        ),
    ]


def require_bounded(explained: Any, rows: int) -> None:
    """Fails where a table was read from end to end, or more than so many rows of all tables."""
    (answer,) = json.loads(explained) if isinstance(explained, str) else explained
    plan = answer["Plan"]
    read = 0.0
    for node in nodes(plan):
        assert node["Node Type"] != "Seq Scan", json.dumps(plan, indent=1)
        if "Relation Name" in node:
            found = node["Actual Rows"] + node.get("Rows Removed by Filter", 0)
            read += found * node["Actual Loops"]
    assert read <= rows, f"{read} rows are read: {json.dumps(plan, indent=1)}"


def nodes(plan: Any) -> Iterator[Any]:
    """The steps of a plan."""
    yield plan
    for part in plan.get("Plans", ()):
        yield from nodes(part)

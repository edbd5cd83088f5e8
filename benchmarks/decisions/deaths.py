"""What it costs a batch that its death would be noticed (ADR 0008).

A batch of one event that only moves its checkpoint, which is all that a small batch has to do beside
its handler. How does the next runner know that it began, if its process never comes to say more?

    python -m benchmarks.decisions.deaths [--seconds 1] [--rounds 7]
"""

from __future__ import annotations

import argparse
from functools import partial

from benchmarks.decisions.testbed import rounds, server, show, timed

TABLES = """
CREATE TABLE checkpoints (projection text PRIMARY KEY, position bigint NOT NULL, begun bigint NOT NULL);
CREATE TABLE begun (projection text PRIMARY KEY, event_id uuid, count bigint NOT NULL);
CREATE SEQUENCE batches;
INSERT INTO checkpoints VALUES ('reader', 0, 0);
INSERT INTO begun VALUES ('reader', NULL, 0);
"""
LOCK = "SELECT position, begun FROM checkpoints WHERE projection = 'reader' FOR UPDATE SKIP LOCKED"
DRAW = f"SELECT position, begun, nextval('batches') FROM ({LOCK}) AS locked"
SET = f"SELECT position, begun, setval('batches', begun + 1) FROM ({LOCK}) AS locked"
MOVE = "UPDATE checkpoints SET position = position + 1, begun = begun + 1"
BEGIN = "UPDATE begun SET event_id = gen_random_uuid(), count = count + 1"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=1)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()

    with server() as lab, lab.connect() as connection:
        connection.execute(TABLES)

        def batch(lock: str, first: str | None = None) -> None:
            if first:
                connection.execute(first, prepare=True)
            with connection.transaction():
                connection.execute(lock, prepare=True)
                connection.execute(MOVE, prepare=True)

        variants = {
            "not noticed": partial(batch, LOCK),
            "a sequence, drawn from": partial(batch, DRAW),
            "a sequence, set": partial(batch, SET),
            "a transaction of its own before": partial(batch, LOCK, BEGIN),
        }
        show(
            "Batches of one event",
            rounds(
                {name: partial(timed, v, seconds=options.seconds) for name, v in variants.items()},
                count=options.rounds,
            ),
            baseline="not noticed",
            unit="batches/s",
        )


if __name__ == "__main__":
    main()

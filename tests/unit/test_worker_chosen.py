"""Which projections of a configuration a worker runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from eventferry import Config, UnknownProjection, load
from eventferry.program import chosen

CONFIGURATION = """
service = "users"
local_url = "postgresql://h/users"
shared_url = "postgresql://h/shared"
[producing.out]
stream_name = "users-stream"
[producing.out-background]
stream_name = "users-stream"
background_process = true
[consuming.in]
stream_names = ["mails-stream"]
environment = "shared"
handler = "builtins:print"
queue = "slow"
[consuming.in-background]
stream_names = ["mails-stream"]
environment = "shared"
handler = "builtins:print"
background_process = true
queue = "slow"
"""


@pytest.fixture
def config(tmp_path: Path) -> Config:
    path = tmp_path / "projections.toml"
    path.write_text(CONFIGURATION)
    return load(path, environ={}, import_handlers=False)


def names(
    config: Config, *given: str, queue: str | None = None, background: bool = False
) -> set[str]:
    return {p.name for p in chosen(config, given or None, queue=queue, background=background)}


def test_by_default_it_runs_all_that_run_on_demand(config: Config) -> None:
    assert names(config) == {"out", "in"}


def test_a_queue_narrows_it(config: Config) -> None:
    assert names(config, queue="slow") == {"in"}
    assert names(config, queue="domain-events") == {"out"}
    assert names(config, queue="nothing-here") == set()


def test_with_background_the_long_running_ones_come_too(config: Config) -> None:
    assert names(config, background=True) == {"out", "in", "out-background", "in-background"}
    assert names(config, queue="slow", background=True) == {
        "in",
        "out-background",
        "in-background",
    }


def test_named_ones_are_run_whatever_their_queue(config: Config) -> None:
    assert names(config, "in-background") == {"in-background"}
    assert [p.name for p in chosen(config, ["in", "out"])] == ["in", "out"]


def test_an_unknown_name_is_refused_with_those_that_there_are(config: Config) -> None:
    with pytest.raises(UnknownProjection, match=r"'inn'; did you mean 'in'\? it has in, in-b"):
        chosen(config, ["inn"])

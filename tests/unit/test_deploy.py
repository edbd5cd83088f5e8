"""The alerts and the dashboard of `deploy/` can be loaded, and what they say can be done.

That a worker tells what they ask for is in `integration/test_metrics.py`.
"""

from __future__ import annotations

import itertools
import re
from importlib.util import find_spec
from typing import Any

import promql_parser
import pytest

from tests.environment import REPOSITORY, require
from tests.promql import ALERTS, Asked, asked, dashboard

REFERENCE = (REPOSITORY / "docs/reference/command-line.md").read_text()


@pytest.mark.parametrize("one", asked(), ids=lambda one: one.who)
def test_an_expression_is_promql(one: Asked) -> None:
    promql_parser.parse(one.expression.replace("$__rate_interval", "5m"))  # as Grafana does
    assert one.selectors


def test_nobody_asks_how_fast_that_grows_which_is_counted_up_to_a_limit() -> None:
    for one in asked():
        assert not re.search(r"(deriv|rate)\(eventferry_projection_lag_events", one.expression), one


def test_nobody_is_told_that_all_is_well_an_hour_after_the_last_worker_has_ended() -> None:
    (missing,) = (one for one in asked() if one.who == "EventferryNoWorkerSeen")
    assert "offset" not in missing.expression  # which finds nothing either, by then


@pytest.mark.once  # what reads it is installed for one Python
def test_alerts_are_yaml_and_each_says_what_is_wrong_and_what_helps() -> None:
    require(find_spec("yaml"), "PyYAML: make charts")
    import yaml

    (group,) = yaml.safe_load(ALERTS.read_text())["groups"]
    rules = group["rules"]
    assert [r["expr"] for r in rules] == [a.expression for a in asked()[: len(rules)]]
    assert len({rule["alert"] for rule in rules}) == len(rules)
    for rule in rules:
        assert set(rule) == {"alert", "expr", "for", "labels", "annotations"}
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert set(rule["annotations"]) == {"summary", "description"}


def test_the_commands_that_alerts_name_are_there() -> None:
    commands = re.findall(r"`(eventferry [^`]*)`", ALERTS.read_text())
    assert len(commands) > 10
    for command in commands:
        words = list(itertools.takewhile(str.isalpha, command.split()))
        assert f"\n## {' '.join(words)}\n" in REFERENCE, command
        for option in re.findall(r"--[a-z-]+", command):
            assert option in REFERENCE.partition(f"\n## {' '.join(words)}\n")[2], command


def test_the_dashboard_can_be_imported_anywhere() -> None:
    board = dashboard()
    assert board["id"] is None
    first, *others = board["templating"]["list"]
    assert (first["name"], first["type"]) == ("datasource", "datasource")
    assert {v["name"] for v in others} == {"service", "projection"}
    of_data = [*others, *board["panels"], *(t for p in board["panels"] for t in p["targets"])]
    assert {o["datasource"]["uid"] for o in of_data} == {"${datasource}"}
    ids = [panel["id"] for panel in board["panels"]]
    assert len(set(ids)) == len(ids)


def test_no_panel_covers_another() -> None:
    def cells(panel: dict[str, Any]) -> set[tuple[int, int]]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        return {(at["x"] + n, at["y"] + m) for n in range(at["w"]) for m in range(at["h"])}

    for one, other in itertools.combinations(dashboard()["panels"], 2):
        assert not cells(one) & cells(other), (one["title"], other["title"])

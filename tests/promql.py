"""What the alerts and the dashboard of `deploy/` ask of Prometheus: metrics, and their labels."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tests.environment import REPOSITORY

ALERTS = REPOSITORY / "deploy" / "prometheus" / "alerts.yml"
DASHBOARD = REPOSITORY / "deploy" / "grafana" / "eventferry.json"
TARGETS = {"instance", "job"}
"""Labels that Prometheus adds by itself."""


@dataclass(frozen=True, slots=True)
class Asked:
    """An expression, and who asks it."""

    who: str
    expression: str
    shown: str = ""
    """What is said of its result: `{{service}}`, `{{ $labels.service }}`."""

    @property
    def selectors(self) -> dict[str, dict[str, str]]:
        """The metrics in it, each with the values that labels must have, `=` and `=~` alike."""
        found = re.findall(r"\b(eventferry_\w+)(?:\{(.*?)\})?", self.expression)
        return {name: dict(re.findall(r'(\w+)=~?"(.*?)"', matchers)) for name, matchers in found}

    @property
    def labels(self) -> set[str]:
        """The labels that it groups by, and that are shown of it."""
        groups = re.findall(r"\b(?:by|on) \((.*?)\)", self.expression)
        shown = re.findall(r"\{\{\s*(?:\$labels\.)?(\w+)\s*\}\}", self.shown)
        return {label for group in groups for label in group.split(", ")} | set(shown)


def asked() -> list[Asked]:
    """All expressions of both."""
    return [*_of_alerts(), *_of_dashboard(dashboard())]


def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(DASHBOARD.read_text())
    return found


def _of_alerts() -> Iterator[Asked]:
    for rule in ALERTS.read_text().split("- alert: ")[1:]:
        name, _, rest = rule.partition("\n")
        (expression,) = re.findall(r"^ +expr: (.*)$", rest, re.MULTILINE)
        yield Asked(name, expression, rest)


def _of_dashboard(board: dict[str, Any]) -> Iterator[Asked]:
    for panel in board["panels"]:
        for target in panel["targets"]:
            yield Asked(panel["title"], target["expr"], target["legendFormat"])
    for variable in board["templating"]["list"][1:]:
        found = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["definition"])
        assert found is not None, variable
        yield Asked(variable["name"], found[1], f"{{{{{found[2]}}}}}")

"""Helm, with a chart of `deploy/helm`: in a process of its own.

Its Go runtime has threads, and other tests fork.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from functools import cache
from importlib.util import find_spec
from typing import Any

from tests.environment import REPOSITORY, require
from tests.waiting import PATIENCE_S

CHARTS = REPOSITORY / "deploy" / "helm"
NAMESPACE = "shop"

Values = Mapping[str, Any]


class HelmError(Exception):
    """What Helm says when it refuses."""


def rendered(
    chart: str, values: Values, *, release: str = "boilerplate", kubeconfig: str = ""
) -> dict[str, str]:
    """What the files of a chart become, by their names under `templates/`.

    With a `kubeconfig`, templates look into that cluster; without, `lookup` finds nothing.
    """
    found: dict[str, str] = _ask("render", chart, values, release, kubeconfig)
    return {name.removeprefix(f"{chart}/templates/"): text for name, text in found.items()}


def linted(chart: str, values: Values) -> list[dict[str, Any]]:
    """What `helm lint --strict` says, each with a severity: 1 a hint, 2 a warning, 3 an error."""
    found: list[dict[str, Any]] = _ask("lint", chart, values)
    return found


def _ask(*question: object) -> Any:
    require(find_spec("helm_python"), "Helm: make charts")
    answer = json.loads(_answered(json.dumps(question)))
    if "refused" in answer:
        raise HelmError(answer["refused"])
    return answer["found"]


@cache
def _answered(question: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "tests.helm"],
        cwd=REPOSITORY,
        input=question,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S * 2,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def _render(chart: str, values: Values, release: str, kubeconfig: str) -> object:
    import helm_python as helm

    with helm.Chart.load(CHARTS / chart) as loaded:
        if not kubeconfig:
            return loaded.render(values, name=release, namespace=NAMESPACE)
        with helm.Config(namespace=NAMESPACE, kubeconfig_content=kubeconfig) as cluster:
            return cluster.render(loaded, values, name=release, namespace=NAMESPACE)


def _lint(chart: str, values: Values) -> object:
    import helm_python as helm

    return helm.lint(CHARTS / chart, values, strict=True)["messages"]


def _answer(command: str, *arguments: Any) -> dict[str, object]:
    import helm_python as helm

    commands: dict[str, Callable[..., object]] = {"render": _render, "lint": _lint}
    try:
        return {"found": commands[command](*arguments)}
    except helm.HelmError as error:
        return {"refused": str(error)}


if __name__ == "__main__":
    print(json.dumps(_answer(*json.load(sys.stdin))))

"""What Prometheus is told by a dashboard: of projections that short runs handle, too."""

from __future__ import annotations

from pathlib import Path

import httpx
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from eventferry.embedded import EmbeddedServer
from eventferry.migration import migrate
from tests.conftest import MakeDatabase
from tests.dashboard.conftest import Serve
from tests.dashboard.serving import Dashboard
from tests.dashboard.staged import PARKED_ORDERS
from tests.deployed import deployed
from tests.waiting import until


def told(client: httpx.Client) -> dict[str, Metric]:
    answer = client.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith("text/plain; version=")
    return {family.name: family for family in text_string_to_metric_families(answer.text)}


def values(family: Metric, label: str, **of: str) -> dict[str, float]:
    """By a label, the values of those samples that have the others."""
    found = [s for s in family.samples if of.items() <= s.labels.items()]
    return {s.labels[label]: s.value for s in found}


def test_it_says_how_all_projections_of_the_service_are(dashboard: Dashboard) -> None:
    with dashboard.client() as client:
        found = told(client)
    assert values(found["eventferry_up"], "store") == {"local": 1, "shared": 1}
    states = values(found["eventferry_projection_state"], "projection", state="failed")
    assert states == {
        "mails-projection": 0,
        "welcome-projection": 1,
        "invoice-projection": 0,
        "audit-projection": 0,
    }
    parked = values(found["eventferry_projection_parked_events"], "projection")
    assert parked["invoice-projection"] == len(PARKED_ORDERS)
    assert values(found["eventferry_projection_lag_events"], "projection")["welcome-projection"] > 0


def test_a_store_that_is_away_is_told_of(
    make_database: MakeDatabase, own_server: EmbeddedServer, tmp_path: Path, serve: Serve
) -> None:
    shared_url = own_server.create_database("shared")
    migrate(shared_url, kind="shared")
    toml = (
        f'service = "users"\nlocal_url = "{make_database("local", "users")}"\n'
        f'shared_url = "{shared_url}"\n[producing.users-projection]\nstream_name = "users-stream"\n'
    )
    with deployed(tmp_path / "users", toml) as users:
        running = serve(users.folder)
        with running.client() as client:
            assert values(told(client)["eventferry_up"], "store") == {"local": 1, "shared": 1}
            own_server.stop()
            until(
                lambda: values(told(client)["eventferry_up"], "store") == {"local": 1, "shared": 0},
                "it says that the shared store is away",
            )

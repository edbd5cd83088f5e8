"""The handlers, on a real PostgreSQL that each run of pytest starts for itself."""

from pathlib import Path

import pytest

from eventferry import Event
from eventferry.testing import ServiceUnderTest

ADA = Event("UserRegistered", {"email": "ada@example.org"}, entity_id="1")
GRACE = Event("UserRegistered", {"email": "grace@example.org"}, entity_id="2")


@pytest.fixture(scope="session")
def eventferry_schema() -> Path:
    """The service's own tables; made once, copied for each test."""
    return Path(__file__).with_name("tables.sql")


def test_who_registers_is_welcomed(eventferry_service: ServiceUnderTest) -> None:
    outcome = eventferry_service.given(ADA, GRACE).when_handled_by("welcome-projection")

    outcome.then("SELECT email FROM welcomes", "ada@example.org", "grace@example.org")


def test_nobody_is_welcomed_twice_or_not_at_all(eventferry_service: ServiceUnderTest) -> None:
    eventferry_service.run_with_crashes("welcome-projection", [ADA, GRACE])


def test_what_happens_here_gets_to_the_other_services(
    eventferry_service: ServiceUnderTest,
) -> None:
    eventferry_service.append("SERVICE-stream", ADA)

    eventferry_service.run_until_idle()

    eventferry_service.assert_appended("SERVICE-stream", ADA, environment="shared")

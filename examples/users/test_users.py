"""What users does, on a real PostgreSQL: see eventferry's testing kit."""

from app import app
from fastapi.testclient import TestClient

from eventferry import Event
from eventferry.testing import ServiceUnderTest

ADA = {"name": "Ada", "email": "ada@example.org"}


def test_who_registers_is_kept_and_told_of(eventferry_service: ServiceUnderTest) -> None:
    with TestClient(app) as client:
        ada = client.post("/users", json=ADA).json()
        assert client.get(f"/users/{ada['id']}").json() == ada

    registered = Event("UserRegistered", ADA, entity_id=ada["id"])
    eventferry_service.assert_appended("users-stream", registered)
    eventferry_service.run_until_idle()
    eventferry_service.assert_appended("users-stream", registered, environment="shared")


def test_an_address_registers_once(eventferry_service: ServiceUnderTest) -> None:
    with TestClient(app) as client:
        assert client.post("/users", json=ADA).status_code == 201
        assert client.post("/users", json=ADA).status_code == 409

    assert len(eventferry_service.events("users-stream")) == 1

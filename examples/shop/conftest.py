"""The testing kit with Django's ORM: in each test, its local store is Django's database."""

import os
from collections.abc import Callable, Iterator

import django
import pytest
from django.core.management import call_command
from django.db import connections
from psycopg.conninfo import conninfo_to_dict

from eventferry.testing import ServiceUnderTest

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")
django.setup()


def lead_django_to(url: str) -> None:
    connections.close_all()
    options = conninfo_to_dict(url)
    elsewhere = dict.fromkeys(("USER", "PASSWORD", "HOST", "PORT"), "")
    connections.settings["default"] |= elsewhere | {
        "NAME": options.pop("dbname"),
        "OPTIONS": options,
    }


@pytest.fixture(scope="session")
def eventferry_schema() -> Callable[[str], None]:
    """The tables of the shop; made once, copied for each test."""

    def migrate(url: str) -> None:
        lead_django_to(url)
        call_command("migrate", verbosity=0)
        connections.close_all()

    return migrate


@pytest.fixture(autouse=True)
def service(eventferry_service: ServiceUnderTest) -> Iterator[ServiceUnderTest]:
    lead_django_to(eventferry_service.local_url)
    yield eventferry_service
    connections.close_all()

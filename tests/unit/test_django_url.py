"""The URL of the local store, made of what Django is told of its database."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from psycopg.conninfo import conninfo_to_dict

from eventferry import ConfigurationError
from tests.django_host import POSTGRESQL, set_up, under_django

set_up()

from eventferry.django.hosting import url  # noqa: E402 - it has settings now

BARE = {"ENGINE": POSTGRESQL, "NAME": "shop", "USER": "", "PASSWORD": "", "HOST": "", "PORT": ""}
TRICKY = "p@ss:w/o%rd ?#&=ü"


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({}, {"dbname": "shop"}),
        ({"HOST": "db", "PORT": 5433}, {"dbname": "shop", "host": "db", "port": "5433"}),
        ({"HOST": "/run/pg", "PORT": "5433"}, {"host": "/run/pg", "port": "5433"}),
        ({"HOST": "a,b", "PORT": "1,2"}, {"host": "a,b", "port": "1,2"}),
        ({"HOST": "::1"}, {"host": "::1"}),
        ({"PORT": "5433"}, {"port": "5433"}),
        (
            {"USER": TRICKY, "PASSWORD": TRICKY, "HOST": "db"},
            {"user": TRICKY, "password": TRICKY, "host": "db"},
        ),
        ({"USER": "shop", "PASSWORD": TRICKY}, {"user": "shop", "password": TRICKY}),
        ({"PASSWORD": TRICKY, "HOST": "db"}, {"password": TRICKY, "host": "db"}),
        ({"NAME": "a b/c?d@e%"}, {"dbname": "a b/c?d@e%"}),
        ({"NAME": "", "OPTIONS": {"service": "shop"}}, {"service": "shop"}),
        (
            {"OPTIONS": {"sslmode": "verify-full", "sslrootcert": "/c a.pem", "pool": True}},
            {"sslmode": "verify-full", "sslrootcert": "/c a.pem"},
        ),
        ({"OPTIONS": {"options": "-c a.b=c"}}, {"options": "-c a.b=c"}),
        (
            {"OPTIONS": {"assume_role": "the owner", "isolation_level": 4}},
            {"options": "-c role=the\\ owner"},
        ),
    ],
)
def test_it_says_what_the_settings_say(entry: dict[str, Any], expected: dict[str, str]) -> None:
    with under_django(tables=False, default={**BARE, **entry}):
        made = url("default")
    parts = {key: value for key, value in conninfo_to_dict(made).items() if value is not None}
    assert expected.items() <= parts.items()
    assert set(parts) <= {"dbname", *expected}


@pytest.mark.parametrize(
    ("entry", "mistake"),
    [
        ({"ENGINE": "django.db.backends.sqlite3"}, "must be a PostgreSQL, not django"),
        ({"NAME": ""}, "supply the NAME"),
    ],
)
def test_what_is_no_postgresql_is_a_mistake(entry: dict[str, Any], mistake: str) -> None:
    with (
        under_django(tables=False, default={**BARE, **entry}),
        pytest.raises(ConfigurationError, match=rf"settings\.DATABASES\['default'\]: .*{mistake}"),
    ):
        url("default")


def test_who_lacks_django_is_told_what_to_install() -> None:
    program = "import sys; sys.modules['django'] = None; import eventferry.django"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert b'pip install "eventferry[django]"' in done.stderr

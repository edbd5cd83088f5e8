"""Django in the process of the tests: set up once, on another database in each test.

Only within `under_django` does eventferry know of it, so that other tests of the process are not
changed by it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import django
from django.apps import apps
from django.conf import settings
from django.db import connections
from psycopg.conninfo import conninfo_to_dict

from eventferry import framework


def set_up() -> None:
    """Once a process."""
    if settings.configured:
        return
    settings.configure(
        DATABASES={alias: {"ENGINE": POSTGRESQL} for alias in ("default", "other")},
        INSTALLED_APPS=["eventferry.django", "tests.djangoapp"],
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        ROOT_URLCONF="tests.djangoapp.urls",
        USE_TZ=True,
    )
    django.setup()
    framework.use(framework.NONE)


POSTGRESQL = "django.db.backends.postgresql"


def database(url: str, **more: Any) -> dict[str, Any]:
    """An entry of settings.DATABASES for a URL."""
    parts = conninfo_to_dict(url)
    return {
        "ENGINE": POSTGRESQL,
        "NAME": parts["dbname"],
        "USER": parts.get("user", ""),
        "PASSWORD": parts.get("password", ""),
        "HOST": parts.get("host", ""),
        "PORT": parts.get("port", ""),
        **more,
    }


@contextmanager
def under_django(*, tables: bool = True, **databases: dict[str, Any]) -> Iterator[None]:
    """The process runs under Django, with these entries of settings.DATABASES."""
    from eventferry.django.hosting import Django

    set_up()
    before = {alias: dict(connections.settings[alias]) for alias in databases}
    host = framework.use(Django())
    try:
        for alias, entry in databases.items():
            forget(alias)
            connections.settings[alias].update({"OPTIONS": {}, **entry})
        if tables:
            create_tables()
        yield
    finally:
        framework.use(host)
        for alias, entry in before.items():
            forget(alias)
            connections.settings[alias].clear()
            connections.settings[alias].update(entry)


def forget(alias: str) -> None:
    """Closes this thread's connection; the next one is to where the settings say."""
    connections[alias].close()
    del connections[alias]


def create_tables(using: str = "default") -> None:
    """Those of the tests' app, without the migrations that it does not have."""
    with connections[using].schema_editor() as editor:
        for model in apps.get_app_config("djangoapp").get_models():
            editor.create_model(model)

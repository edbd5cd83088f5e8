"""What Django changes: where the configuration is, which database is the local store, who starts
processes, and whose transactions handlers run in.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlencode

import psycopg
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import DEFAULT_DB_ALIAS, connections

from eventferry.config import is_same_database
from eventferry.django.transactions import DjangoTransactions
from eventferry.errors import ConfigurationError
from eventferry.framework import Framework, Settings

NAME: Final = "settings.EVENTFERRY"
OWN: Final = frozenset({"database"})
"""Keys of the table that no projections.toml has."""


class Django(Framework):
    """This process runs under Django, which is set up."""

    _at_first = "postgresql://"
    """The database that was the alias's before tests have made one for themselves."""
    async_handlers = (
        "under Django a handler is a plain function, so that what it does with the ORM is in the "
        "transaction of its batch. Write 'def', and await what must be with asgiref's async_to_sync"
    )

    def __init__(self) -> None:
        self.program = _program()
        with suppress(ConfigurationError):  # who loads the configuration hears of it
            self._at_first = url(alias())

    def settings(self) -> Settings | None:
        table = {key: _as_toml(value) for key, value in _table().items() if key not in OWN}
        if not table:
            return None
        file, folder = _place()
        return Settings(name=NAME, path=file, folder=folder, table=table)

    def defaults(self) -> Mapping[str, str]:
        return {"local_url": url(alias())}

    def local_url(self, configured: str) -> str:
        now = url(alias())
        has_moved = not is_same_database(now, self._at_first)
        return now if has_moved and is_same_database(configured, self._at_first) else configured

    def transactions(self, local_url: str) -> DjangoTransactions:
        found = DjangoTransactions(alias())
        if not is_same_database(local_url, url(alias())):
            try:
                found.require_same_store(local_url)
            except BaseException:
                found.close()
                raise
        return found


def alias() -> str:
    """The alias of the database that is the local store.

    Raises:
        ConfigurationError: there is no such database.
    """
    found = _table().get("database", DEFAULT_DB_ALIAS)
    if found not in connections.settings:
        known = ", ".join(map(repr, connections.settings))
        raise ConfigurationError(
            [f"{NAME}: database: must be one of settings.DATABASES ({known}), not {found!r}"]
        )
    return str(found)


def url(using: str) -> str:
    """The URL of one of settings.DATABASES; in a test, of its test database.

    Raises:
        ConfigurationError: it is no PostgreSQL, or is not configured.
    """
    connection = connections.create_connection(using)
    place = f"settings.DATABASES[{using!r}]"
    if connection.vendor != "postgresql":
        advice = 'or name another one: EVENTFERRY = {"database": "alias", …}'
        engine = connection.settings_dict["ENGINE"]
        raise ConfigurationError(
            [f"{place}: must be a PostgreSQL, not {engine}, to be the local store; {advice}"]
        )
    try:
        parameters = dict(connection.get_connection_params())
    except ImproperlyConfigured as error:
        raise ConfigurationError([f"{place}: {error}"]) from error
    if role := connection.settings_dict["OPTIONS"].get("assume_role"):
        parameters["options"] = f"{parameters.get('options', '')} -c role={_escaped(role)}".strip()
    return _url({k: str(v) for k, v in parameters.items() if k in _LIBPQ and v is not None})


_LIBPQ = {one.keyword.decode() for one in psycopg.pq.Conninfo.get_defaults()} - {"client_encoding"}


def _url(parameters: dict[str, str]) -> str:
    host, database = parameters.pop("host", ""), parameters.pop("dbname", "")
    user, password = parameters.pop("user", ""), parameters.pop("password", "")
    if any(c in host for c in "/,:@%"):  # a socket's folder, several hosts, IPv6
        parameters["host"], host = host, ""
    port = parameters.pop("port", "") if host else ""
    login = quote(user, safe="") + (f":{quote(password, safe='')}" if password else "")
    place = f"{login}@" if login else ""
    place += f"{quote(host, safe='')}{f':{port}' if port else ''}/{quote(database, safe='')}"
    query = urlencode(parameters, quote_via=quote, safe="")
    return f"postgresql://{place}{f'?{query}' if query else ''}"


def _escaped(value: str) -> str:
    """As libpq's `options` wants a value with spaces."""
    return value.replace("\\", "\\\\").replace(" ", "\\ ")


def _table() -> Mapping[str, Any]:
    table = getattr(settings, "EVENTFERRY", {})
    if not isinstance(table, dict):
        raise ConfigurationError(
            [f'{NAME}: must be a dict such as {{"service": "shop"}}, not {type(table).__name__}']
        )
    return table


def _as_toml(value: Any) -> Any:
    """In settings, a tuple is as good as a list."""
    if isinstance(value, dict):
        return {key: _as_toml(one) for key, one in value.items()}
    return [_as_toml(one) for one in value] if isinstance(value, list | tuple) else value


def _place() -> tuple[Path, Path]:
    """The file with the settings, and the folder that its module is imported from."""
    name = settings.SETTINGS_MODULE or ""
    file = getattr(sys.modules.get(name), "__file__", None)
    if file is None:  # settings.configure()
        return Path.cwd() / NAME, Path.cwd()
    path = Path(file).absolute()
    module = path.parent if path.name == "__init__.py" else path
    return path, module.parents[name.count(".")]


def _program() -> tuple[str, ...]:
    """`manage.py eventferry`, or what comes to the same."""
    script = Path(sys.argv[0])
    if script.name == "manage.py" and script.is_file():
        return (sys.executable, str(script.absolute()), "eventferry")
    return (sys.executable, "-m", "django", "eventferry")

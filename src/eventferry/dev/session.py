"""What one service needs to run on a laptop: its databases, and their addresses.

    configured URLs ──> the servers they name; databases that are missing there are created
    none            ──> the server of `eventferry store`, where that runs; else one of its own

The stores of a service are on one server, unless URLs say otherwise: a checkpoint knows which
store it came from, so a service that changes its server changes both.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Final

from eventferry import framework
from eventferry.config import Config, load
from eventferry.dev.database import create_missing, database_of
from eventferry.dev.server import SHARED_STORES, server_in, store_folder
from eventferry.embedded import EmbeddedServer
from eventferry.errors import ConfigurationError, EventFerryError, redacted
from eventferry.lock import take
from eventferry.migration import migrate
from eventferry.process import KILLED, Process, popen
from eventferry.server_folder import Address, running

FOLDER: Final = ".eventferry"
RESERVED: Final = (*SHARED_STORES, "postgres", "template0", "template1")
LONGEST: Final = 63 - len("_test")  # PostgreSQL cuts longer names of databases
NOWHERE: Final = {
    "local_url": "postgresql://local.invalid/none",
    "shared_url": "postgresql://shared.invalid/none",
}
"""Stands for a URL that the configuration does not say."""


class DevRunsAlready(EventFerryError):
    """`eventferry dev` runs for this service already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What is configured."""

    path: Path
    folder: Path
    service: str
    urls: Mapping[str, str]
    """By key, `local_url` and `shared_url`, if they are there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A service whose stores are ready."""

    config: Config
    server: EmbeddedServer | None
    """The server that was started for it, and ends with it; None: it uses others'."""
    address: Address | None
    """How the embedded server is reached that it uses; None: URLs were configured."""
    urls: Mapping[str, str]
    """Of its stores, by key, for people: with the password of an embedded server, and no other."""
    created: tuple[str, ...]
    """The databases that were missing."""
    variables: Mapping[str, str]
    """The environment variables that lead to its stores, for what the configuration lacks."""
    test_variables: Mapping[str, str]
    """The same for its tests."""

    def start_worker(self, log_level: str) -> Process:
        """A worker with the newest code and configuration, for all projections."""
        return self._started("worker", "--background", "--all-queues", "--log-level", log_level)

    def start_dashboard(self, port: int) -> Process:
        """The dashboard, with the newest configuration."""
        return self._started("dashboard", "--port", str(port))

    def _started(self, *arguments: str) -> Process:
        # An old .pyc passes for the newest code that was written in the same second.
        environ = {**os.environ, **self.variables, "PYTHONDONTWRITEBYTECODE": "1"}
        return Process(
            _process=popen(
                [*framework.current().program, *arguments, "--config", str(self.config.path)],
                folder=self.config.folder,
                output=sys.stderr,
                environ=environ,
                script=KILLED,
            )
        )


def given(path: Path | None) -> Given:
    """What the configuration says, but for its handlers, which are not looked at.

    Raises:
        ConfigurationError: with all mistakes.
    """
    config = load(path, defaults=NOWHERE, import_handlers=False)
    urls = {key: getattr(config, key) for key in NOWHERE}
    urls = {key: url for key, url in urls.items() if url != NOWHERE[key]}
    if "local_url" not in urls:
        _check_name(config)
    return Given(path=config.path, folder=config.folder, service=config.service, urls=urls)


def _check_name(config: Config) -> None:
    name, advice = config.service, "rename the service, or give it a local_url"
    if name in RESERVED:
        whose = "all services" if name in SHARED_STORES else "PostgreSQL's own"
        mistake = f"service: {name!r} is the name of a database of {whose}; {advice}"
    elif len(name) > LONGEST:
        mistake = f"service: {name!r} is too long to name a database ({LONGEST} at most); {advice}"
    else:
        return
    raise ConfigurationError([f"{config.path.name}: {mistake}"])


@contextmanager
def opened(said: Given, folder: Path, port: int | None) -> Iterator[Session]:
    """A session; what was started for it has ended with the block.

    Args:
        said: The configuration.
        folder: Where a server of its own keeps its data, and the variables are written to.
        port: The TCP port of a server of its own: then it has one, whoever else runs.

    Raises:
        DevRunsAlready: another session has been opened for this configuration.
        EmbeddedServerError: there is no PostgreSQL, or it does not start.
        StoreUnavailable, StoreError: a configured server can't be used.
    """
    with ExitStack() as stack:
        lock = take("dev", said.path)
        if lock is None:
            raise DevRunsAlready(
                f"`eventferry dev` runs for {said.path} already: end that one first (Ctrl-C)"
            )
        stack.enter_context(lock)
        server = found = None
        if len(said.urls) < len(NOWHERE):
            found = running(store_folder()) if port is None else None
            if found is None:
                server = stack.enter_context(server_in(folder, port))
                found = running(folder)
        session = _ready(said, server, found.address if found else None)
        if session.variables:
            _write_variables(folder, session)
        yield session


def _ready(said: Given, server: EmbeddedServer | None, address: Address | None) -> Session:
    """With its databases, which are stores then."""
    created: tuple[str, ...] = ()
    urls, tests = {}, {}
    shown = {key: redacted(url) for key, url in said.urls.items()}
    if address is not None:
        own = {"local_url": (said.service, f"{said.service}_test"), "shared_url": SHARED_STORES}
        own = {key: names for key, names in own.items() if key not in said.urls}
        urls = {key: address.url(name) for key, (name, _) in own.items()}
        tests = {key: address.url(test) for key, (_, test) in own.items()}
        tcp = address.port is not None
        shown |= {key: address.url(name, tcp=tcp) for key, (name, _) in own.items()}
        created += create_missing(address.url(), *chain.from_iterable(own.values()))
    for url in said.urls.values():
        created += create_missing(url, database_of(url))
    config = load(said.path, defaults=urls, import_handlers=False)
    _migrate(config.service, config.local_url, None if config.same_database else config.shared_url)
    _migrate(config.service, tests.get("local_url"), tests.get("shared_url"))
    return Session(
        config=config,
        server=server,
        address=address,
        urls={key: shown[key] for key in NOWHERE},
        created=created,
        variables=_variables(urls),
        test_variables=_variables(tests),
    )


def _migrate(service: str, local_url: str | None, shared_url: str | None) -> None:
    if local_url is not None:
        migrate(local_url, kind="local", service=service)
    if shared_url is not None:
        migrate(shared_url, kind="shared")


def _variables(urls: Mapping[str, str]) -> dict[str, str]:
    return {f"EVENTFERRY_{key.upper()}": url for key, url in urls.items()}


def _write_variables(folder: Path, session: Session) -> None:
    """For other terminals: `. .eventferry/env.sh`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / ".gitignore").write_text("*\n")
    files = {"env.sh": session.variables, "test-env.sh": session.test_variables}
    for name, variables in files.items():
        lines = [f"export {name}={shlex.quote(url)}\n" for name, url in variables.items()]
        (folder / name).write_text("".join(lines))

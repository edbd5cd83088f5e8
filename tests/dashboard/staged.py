"""What a dashboard has to show: two services as they are deployed, with workers, and their faults.

users   produces users-stream and orders-stream
mail    welcome-projection has failed, invoice-projection has parked events of two kinds,
        audit-projection has handled all; mails-stream is what welcome-projection has appended
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, LiteralString

import psycopg

from eventferry import Event, EventStore
from tests.databases import Databases
from tests.deployed import Deployed, deployed
from tests.services import last, query
from tests.waiting import until

USERS = """
service = "users"
local_url = "{local}"
shared_url = "{shared}"
redact = ["data.secret"]

[producing.users-projection]
stream_name = "users-stream"

[producing.orders-projection]
stream_name = "orders-stream"
"""
MAIL = """
service = "mail"
local_url = "{local}"
shared_url = "{shared}"
redact = ["data.secret"]

[consuming.welcome-projection]
stream_names = ["users-stream"]
environment = "shared"
handler = "handlers:welcome"
attempts = 1

[consuming.invoice-projection]
stream_names = ["orders-stream"]
environment = "shared"
handler = "handlers:invoice"
on_failure = "park"
attempts = 1
storm = 1000

[consuming.audit-projection]
stream_names = ["users-stream", "orders-stream"]
environment = "shared"
handler = "handlers:audit"

[producing.mails-projection]
stream_name = "mails-stream"
"""
HANDLERS = """
from pathlib import Path

from eventferry import Event

FIXED = Path(__file__).with_name("fixed")

def welcome(event, context):
    n = event.data["n"]
    if n == 20 and not FIXED.exists():
        raise ValueError(f"no such mailbox: user{n}@example.org")
    context.append("mails-stream", Event("MailSent", {"n": n}, entity_id=event.entity_id))

def invoice(event, context):
    n = event.data["n"]
    if FIXED.exists():
        return
    if n % 10 == 7:
        raise KeyError("vat_id")
    if n % 15 == 5:
        raise RuntimeError(f"printer {n} is on fire")

def audit(event, context):
    pass
"""

EVENTS = 60
"""In each of users-stream and orders-stream, whose data has n from 1 on."""
FAILS_AT = 20
"""The user whose event welcome-projection fails at."""
NO_VAT = [n for n in range(1, EVENTS + 1) if n % 10 == 7]
ON_FIRE = [n for n in range(1, EVENTS + 1) if n % 15 == 5]
"""The orders that invoice-projection has parked, with one error or the other."""
PARKED_ORDERS = sorted({*NO_VAT, *ON_FIRE})

STATES: LiteralString = "SELECT state FROM eventferry.projections"
REPORTED: LiteralString = (
    "SELECT 1 FROM eventferry.reports WHERE state IN ('idle', 'failed') AND lag IS NOT NULL"
)
PROJECTIONS = 6
"""Of both services."""
PARKED: LiteralString = "SELECT count(*) FROM eventferry.parked_events"
POSITIONS: LiteralString = "SELECT position FROM eventferry.checkpoints WHERE projection = %s"
READERS = {
    "audit-projection": ("users-stream", "orders-stream"),
    "invoice-projection": ("orders-stream",),
}


@dataclass(frozen=True, slots=True)
class Staged:
    """Both services, and the stores."""

    users: Deployed
    mail: Deployed
    users_url: str
    mail_url: str
    shared_url: str

    def work(self) -> None:
        """Starts a worker for each service."""
        self.users.command("worker", "--background")
        self.mail.command("worker", "--background")

    def register(self, first: int, last: int) -> None:
        """Appends UserRegistered events to users-stream."""
        with EventStore(self.users_url) as store:
            store.append("users-stream", [_user(n) for n in range(first, last + 1)])

    def order(self, first: int, last: int) -> None:
        """Appends OrderPlaced events to orders-stream."""
        with EventStore(self.users_url) as store:
            store.append("orders-stream", [_order(n) for n in range(first, last + 1)])

    def fix(self) -> None:
        """From now on, no handler of mail fails."""
        (self.mail.folder / "fixed").touch()

    def until_settled(self) -> None:
        """Returns when everything has been handled, parked, or has failed."""
        until(lambda: "failed" in self._all(STATES, self.mail_url), "one has failed")
        until(lambda: self._all(PARKED, self.mail_url) == [len(PARKED_ORDERS)], "events are parked")
        for name, streams in READERS.items():
            until(lambda n=name, s=streams: self._is_done(n, s), f"{name} has read all")  # type: ignore[misc]

    def until_known(self) -> None:
        """Returns when all services know how the others are."""
        until(lambda: len(self._all(REPORTED, self.shared_url)) == PROJECTIONS, "all have reported")

    def _is_done(self, projection: str, streams: tuple[str, ...]) -> bool:
        """Whether a projection of mail has read all that there is."""
        positions = self._all(POSITIONS, self.mail_url, projection)
        heads = [last(self.shared_url, stream) for stream in streams]
        return all(heads) and sorted(positions) == sorted(heads)

    @staticmethod
    def _all(statement: LiteralString, url: str, *parameters: str) -> list[Any]:
        """The one column of a statement."""
        return [row[0] for row in query(url, statement, parameters)]


def _user(n: int) -> Event:
    data = {"n": n, "email": f"user{n}@example.org", "secret": "s3cret", "city": {"name": "Wien"}}
    return Event("UserRegistered", data, entity_id=f"user-{n % 7}")


def _order(n: int) -> Event:
    return Event("OrderPlaced", {"n": n, "total": n * 3.5}, entity_id=f"order-{n}")


@contextmanager
def staged(databases: Databases, folder: Path) -> Iterator[Staged]:
    """Both services, settled, with their workers."""
    users_url, mail_url = databases.make("local", "users"), databases.make("local", "mail")
    shared_url = databases.make("shared")
    users = USERS.format(local=users_url, shared=shared_url)
    mail = MAIL.format(local=mail_url, shared=shared_url)
    with EventStore(users_url) as store, EventStore(mail_url) as mails:
        store.create_stream("users-stream")
        store.create_stream("orders-stream")
        mails.create_stream("mails-stream")
    with (
        deployed(folder / "users", users) as of_users,
        deployed(folder / "mail", mail, HANDLERS) as of_mail,
    ):
        made = Staged(of_users, of_mail, users_url, mail_url, shared_url)
        made.register(1, EVENTS)
        made.order(1, EVENTS)
        made.work()
        made.until_settled()
        # who ends counts what he has done; who begins reports at once what nobody has reported
        of_users.stop()
        of_mail.stop()
        with psycopg.connect(shared_url, autocommit=True) as conn:
            conn.execute("DELETE FROM eventferry.reports")
        made.work()
        made.until_known()
        yield made

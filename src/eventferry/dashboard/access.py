"""Who is asking: the user of each request, and the page where one logs in.

    open        on this machine alone: everybody is the person who has started the dashboard
    token       `Authorization: Bearer`, or the token on the login page
    users       HTTP Basic, or name and password on the login page; argon2 hashes
    user_header a proxy has asked already, and says who it is

A login lasts in a signed cookie for `SESSION_S`; it ends before with the logout, where the browser
forgets the cookie, and with the credentials that it was made with. Every session holds the secret
that its forms must send along.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from starlette.requests import Request

from eventferry.dashboard.settings import Settings

SESSION_S = 12 * 3600
WRONG_S = 0.5
"""Who gets it wrong waits so long for the next try."""
BY_TOKEN = "token"  # noqa: S105 - a name
"""What the audit calls who has shown the token and given no name."""


@dataclass(slots=True)
class Access:
    """Who may use a dashboard."""

    settings: Settings
    owner: str
    """Who has started it."""
    _hasher: PasswordHasher = field(default_factory=PasswordHasher)
    _known: dict[bytes, str] = field(default_factory=dict)
    """Digests of passwords that were right: a program sends its with every request."""
    _nobody: str = field(init=False)
    """A hash that no password has."""
    _ended: set[str] = field(default_factory=set)
    """Secrets of the sessions that were ended."""
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    """One password at a time: each costs memory and CPU on purpose."""
    _pepper: bytes = field(default_factory=lambda: secrets.token_bytes(32))

    def __post_init__(self) -> None:
        self._nobody = self._hasher.hash(secrets.token_hex())

    @property
    def secret(self) -> str:
        """Signs the sessions: another one for other credentials."""
        own = f"{self.settings.token}\n{sorted(self.settings.users.items())}"
        if self.settings.token or self.settings.users:
            return hashlib.sha256(f"eventferry dashboard\n{own}".encode()).hexdigest()
        return self._pepper.hex()

    async def user(self, request: Request) -> str | None:
        """The user's name; None: he has to log in."""
        if self.settings.is_open:
            return self.owner
        if header := self.settings.user_header:
            return request.headers.get(header, "").strip() or None
        session = request.session
        if session.get("form") in self._ended:
            session.clear()
        return await self._authorized(request) or session.get("user")

    def began(self, session: dict[str, str], user: str) -> None:
        """Somebody has logged in: his session has nothing of what was before."""
        session.clear()
        session["user"] = user
        form_secret(session)

    def ended(self, session: dict[str, str]) -> None:
        """He has logged out: a copy of his cookie lets nobody in, as long as the process lives."""
        self._ended.add(session["form"])
        session.clear()

    async def logged_in(self, name: str, password: str) -> str | None:
        """The user of a name and password, or of the token; None: they are wrong."""
        user = await self._verified(name, password)
        if user is None:
            await asyncio.sleep(WRONG_S)
        return user

    async def _authorized(self, request: Request) -> str | None:
        kind, _, value = request.headers.get("Authorization", "").partition(" ")
        if kind.lower() == "bearer":
            return await self.logged_in("", value.strip())
        if kind.lower() == "basic":
            try:
                name, _, password = base64.b64decode(value, validate=True).decode().partition(":")
            except ValueError:
                return None
            return await self.logged_in(name, password)
        return None

    async def _verified(self, name: str, password: str) -> str | None:
        token = self.settings.token
        if not name.isprintable():  # it is written to the audit
            return None
        if token and hmac.compare_digest(password.encode(), token.encode()):
            return name.strip() or BY_TOKEN
        if not self.settings.users:
            return None
        # who is unknown costs as much as who is known: so nobody learns which names there are
        hashed = self.settings.users.get(name, self._nobody)
        digest = hmac.digest(self._pepper, f"{name}\n{password}".encode(), "sha256")
        if digest not in self._known:
            async with self._turn:
                if not await asyncio.to_thread(self._matches, hashed, password):
                    return None
            self._known[digest] = name
        return name

    def _matches(self, hashed: str, password: str) -> bool:
        try:
            return self._hasher.verify(hashed, password)
        except (VerificationError, InvalidHashError):
            return False


def form_secret(session: dict[str, str]) -> str:
    """What the session's forms send along, so that no other site's form is taken for one."""
    return session.setdefault("form", secrets.token_urlsafe(24))


def is_own_form(request: Request, form: Mapping[str, object]) -> bool:
    """Whether a form comes from a page of the session's."""
    expected, sent = request.session.get("form", ""), str(form.get("form", ""))
    return bool(expected) and hmac.compare_digest(expected.encode(), sent.encode())

"""How a dashboard is to be served, and whether that is safe enough to begin.

Decides without I/O. Who can reach the dashboard can stop projections and read every event; so
beyond this machine it says who may, or does not start.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from urllib.parse import SplitResult, urlsplit

from eventferry.errors import ConfigurationError

TOKEN_VARIABLE = "EVENTFERRY_DASHBOARD_TOKEN"  # noqa: S105 - where it is, not what
USERS_VARIABLE = "EVENTFERRY_DASHBOARD_USERS"
SHORTEST_TOKEN = 16
LOOK_S = 5.0
"""About a dozen statements: less than three a second."""
LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How it is served."""

    host: str = "127.0.0.1"
    port: int = 0
    url: str | None = None
    """Under which people see it, where a proxy stands before it: `https://ops.example.org/ferry`."""
    token: str | None = field(default=None, repr=False)
    """Lets in who knows it."""
    users: Mapping[str, str] = field(default_factory=dict, repr=False)
    """By name, the argon2 hash of the password."""
    user_header: str | None = None
    """The header in which a proxy says who the user is; whoever lacks it is not let in."""
    read_only: bool = False
    """Whether nothing can be changed."""
    payloads: bool = True
    """Whether the data and metadata of events are shown."""
    look_s: float = LOOK_S
    """How often the stores are asked while somebody looks; so old is what is shown, at most."""

    @property
    def is_open(self) -> bool:
        """Whether everybody is let in who can reach it."""
        return not (self.token or self.users or self.user_header)

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it: no proxy stands before it either."""
        seen_at = parts(self.url or "").hostname
        return _is_here(self.host) and (seen_at is None or _is_here(seen_at))

    @property
    def is_https(self) -> bool:
        """Whether people reach it by HTTPS alone."""
        return self.url is not None and self.url.startswith("https:")

    @property
    def root_path(self) -> str:
        """What its paths begin with; empty: nothing."""
        return urlsplit(self.url).path.rstrip("/") if self.url else ""

    @property
    def host_names(self) -> frozenset[str] | None:
        """The names under which it answers; None: any.

        Where nobody has to log in, another site's page could otherwise reach it by a name of its
        own that leads here (DNS rebinding), and where a proxy's header is believed, send that too.
        Elsewhere it would bring no cookie along, and Prometheus comes by an address that nobody
        knows before.
        """
        own = urlsplit(self.url).hostname if self.url else None
        if not self.is_open and not (self.user_header and own):
            return None
        return frozenset({*LOOPBACK_NAMES, self.host, *([own] if own else [])})


def checked(settings: Settings) -> Settings:
    """The settings, if a dashboard may start with them.

    Raises:
        ConfigurationError: with all mistakes.
    """
    mistakes = [*_exposure(settings), *_credentials(settings), *_url(settings)]
    if mistakes:
        raise ConfigurationError(mistakes)
    return settings


def _exposure(settings: Settings) -> list[str]:
    if settings.is_loopback or not settings.is_open:
        return []
    option = "--url" if _is_here(settings.host) else "--host"
    given = settings.url if option == "--url" else settings.host
    mistake = (
        f"{option} {given} lets others than this machine in, and nobody would be asked who "
        f"he is. Set {TOKEN_VARIABLE}, or {USERS_VARIABLE} (eventferry dashboard --hash-password "
        f"makes the hash), or name your proxy's header with --user-header; or leave {option} out"
    )
    return [mistake]


def _is_here(host: str) -> bool:
    """Whether it is an address of this machine that no other can reach."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _credentials(settings: Settings) -> list[str]:
    mistakes = []
    if settings.token is not None and len(settings.token) < SHORTEST_TOKEN:
        mistakes.append(
            f"{TOKEN_VARIABLE} has {len(settings.token)} characters; it must have {SHORTEST_TOKEN} "
            "or more: openssl rand -hex 32 makes one"
        )
    if settings.user_header and not settings.user_header.replace("-", "").isalnum():
        mistakes.append(f"--user-header {settings.user_header!r} is not the name of a header")
    return mistakes


def _url(settings: Settings) -> list[str]:
    if settings.url is None:
        return []
    found = parts(settings.url)
    if found.scheme in ("http", "https") and found.hostname and not (found.query or found.fragment):
        return []
    return [f"--url must be a URL such as https://ops.example.org/ferry, not {settings.url!r}"]


def parts(url: str) -> SplitResult:
    """Its parts; none, if it is no URL."""
    try:
        return urlsplit(url)
    except ValueError:
        return urlsplit("")


def users_of(text: str) -> Mapping[str, str]:
    """The users that the variable names: `alice:$argon2id$… bob:$argon2id$…`.

    Raises:
        ConfigurationError: a word of it is no name with a hash.
    """
    users, mistakes = {}, []
    for number, word in enumerate(text.split(), 1):
        name, _, hashed = word.partition(":")
        if not name or not hashed.startswith("$argon2"):
            mistakes.append(
                f"{USERS_VARIABLE}: word {number} must be NAME:$argon2id$…, as `eventferry "
                "dashboard --hash-password` makes it; between two of them stands a blank"
            )
        users[name] = hashed
    if mistakes:
        raise ConfigurationError(mistakes)
    return MappingProxyType(users)

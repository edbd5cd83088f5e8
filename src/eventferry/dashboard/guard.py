"""What every request and answer is held to, whoever asks: Host, where a write comes from, CSP."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from eventferry.dashboard.settings import Settings, parts

READING = ("GET", "HEAD")
OWN = ("same-origin", "none")
"""A page of ours, or the person himself, by the address bar."""
FOR_PROBES = ("/livez",)
"""They come by addresses, and are told no more than that somebody is there."""
LARGEST = 1_000_000
HEADERS = {
    # nothing inline, nothing from elsewhere, in nobody's frame
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


@dataclass(frozen=True, slots=True)
class Guard:
    """The outermost layer of the application."""

    app: ASGIApp
    settings: Settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                headers.setdefault("Cache-Control", "no-store")
                if self.settings.is_https:
                    headers["Strict-Transport-Security"] = "max-age=31536000"
            await send(message)

        refusal = refused(scope["method"], scope["path"], Headers(scope=scope), self.settings)
        answer = self.app if refusal is None else PlainTextResponse(refusal + "\n", 403)
        await answer(scope, receive, guarded)


def refused(method: str, path: str, headers: Headers, settings: Settings) -> str | None:
    """Why a request is not answered; None: it is.

    Another site's page may link to one of ours, and no more: neither fetch one nor write. Browsers
    say so by Sec-Fetch-Site, older ones and those without HTTPS by Origin. Programs send neither,
    and have no cookies that could be misused.
    """
    host = headers.get("host", "")
    names = settings.host_names
    if names is not None and path not in FOR_PROBES and parts(f"//{host}").hostname not in names:
        return (
            f"this dashboard does not answer under the name {host!r}. Behind a proxy, start it "
            "with --url and the address that people use"
        )
    site = headers.get("sec-fetch-site", "none")
    if method in READING:
        if site in OWN or headers.get("sec-fetch-dest") == "document":
            return None
        return f"a page of the dashboard can be linked to, but not be fetched from {site}"
    if (sender := _stranger(headers, settings)) is not None:
        return f"a change has to come from a page of the dashboard, not from {sender}"
    if "transfer-encoding" in headers or int(headers.get("content-length", "0")) > LARGEST:
        return f"a form has a Content-Length, of at most {LARGEST} bytes"
    return None


def _stranger(headers: Headers, settings: Settings) -> str | None:
    """Where a write comes from, if it is not one of our pages."""
    if site := headers.get("sec-fetch-site"):
        return None if site == "same-origin" else site
    origin = headers.get("origin")
    if origin is None:
        return None
    sender = parts(origin).netloc
    is_own = sender and sender in (headers.get("host"), parts(settings.url or "").netloc)
    return None if is_own else origin


def own_path(path: str) -> str | None:
    """The path, if a browser that is sent there stays with us; None: it might not.

    Browsers take `//` and `/\\` for the beginning of another host, and overlook tabs between.
    """
    is_own = path.startswith("/") and not path.startswith("//")
    return path if is_own and "\\" not in path and path.isprintable() else None

"""What every request and answer is held to, whoever asks: Host, where a write comes from, CSP."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from eventferry.dashboard.settings import Settings

READING = ("GET", "HEAD")
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

        refusal = refused(scope["method"], Headers(scope=scope), self.settings)
        answer = self.app if refusal is None else PlainTextResponse(refusal + "\n", 403)
        await answer(scope, receive, guarded)


def refused(method: str, headers: Headers, settings: Settings) -> str | None:
    """Why a request is not answered; None: it is.

    A write has to come from a page of the same origin: browsers say so by Sec-Fetch-Site, older
    ones by Origin. Programs send neither, and have no cookies that could be misused.
    """
    host = headers.get("host", "")
    names = settings.host_names
    if names is not None and (urlsplit(f"//{host}").hostname or "") not in names:
        return (
            f"this dashboard does not answer under the name {host!r}. Behind a proxy, start it "
            "with --url and the address that people use"
        )
    if method in READING:
        return None
    site = headers.get("sec-fetch-site")
    if site is not None and site != "same-origin":
        return f"a change has to come from a page of the dashboard, not from {site}"
    origin = headers.get("origin")
    if site is None and origin is not None and urlsplit(origin).netloc != host:
        return f"a change has to come from a page of the dashboard, not from {origin}"
    return None

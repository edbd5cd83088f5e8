"""A page: what it is made from, as HTML for people and as JSON for programs.

A maker `(desk, request) -> Page` makes both: `/audit` is its HTML, `/api/audit` its data.
"""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import json
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from importlib.resources import files
from typing import Any
from urllib.parse import unquote
from uuid import UUID

import orjson
import psycopg
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from eventferry.dashboard import show
from eventferry.dashboard.access import form_secret
from eventferry.dashboard.desk import ANSWER_S, BESIDE, Desk, is_expected, said
from eventferry.dashboard.listing import preview
from eventferry.errors import EventFerryError, UnknownProjection

PACKAGE = "eventferry.dashboard"


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """What a page says."""

    template: str
    title: str
    data: Mapping[str, Any]
    """Of plain values, dataclasses, datetimes and UUIDs: the answer of `/api`, and what the
    template is given."""
    view: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """What only the template needs: drawings, links."""
    status: int = 200
    is_live: bool = True
    """Whether it is fetched again when something has changed."""
    follows: bool = False
    """Whether that may be what no look shows: then it is fetched again and again."""


Maker = Callable[[Desk, Request], Awaitable[Page]]


def routes(makers: Mapping[str, Maker]) -> Iterator[Route]:
    """Where each page is, by path."""
    for path, maker in makers.items():
        yield Route(path, _as_html(maker))
        yield Route("/api" + (path if path != "/" else "/overview"), _as_json(maker))


def _as_html(maker: Maker) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        desk: Desk = request.app.state.desk
        return await html(desk, request, await _made(maker, desk, request))

    return answer


def _as_json(maker: Maker) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        page = await _made(maker, request.app.state.desk, request)
        return Response(dumped(page.data), page.status, media_type="application/json")

    return answer


async def _made(maker: Maker, desk: Desk, request: Request) -> Page:
    """The page, or what went wrong with it, in words."""
    if "\0" in unquote(str(request.url)):
        return failed(400, "the address holds a NUL character, which no store can")
    try:
        async with asyncio.timeout(ANSWER_S):
            return await maker(desk, request)
    except UnknownProjection as error:
        return failed(404, str(error))
    except ValueError as error:
        if not isinstance(error, (Wrong, EventFerryError)):
            raise
        return failed(400, str(error))
    except (EventFerryError, psycopg.Error, TimeoutError) as error:
        if not is_expected(error):
            raise
        return failed(503, said(error))


class Wrong(ValueError):
    """What a request asks for can't be: the message says what was expected, and what came."""


def position(text: str) -> int:
    """A position, as links say it.

    Raises:
        ValueError: it is none that a store could have.
    """
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise ValueError(f"{text!r} is no position")
    return int(text)


def failed(status: int, message: str) -> Page:
    """A page that says why there is none."""
    title = {400: "That can't be asked", 403: "Not allowed", 404: "Not found"}.get(
        status, "A store does not answer"
    )
    data = {"error": message, "status": status}
    return Page(template="failed.html", title=title, data=data, status=status)


async def html(desk: Desk, request: Request, page: Page) -> Response:
    """The page, in the frame that all have."""
    root: str = desk.settings.root_path
    zone = show.zone(request.cookies.get("zone"))
    theme = request.cookies.get("theme")
    user = request.scope.get("user_name")
    look = (
        await desk.look(times=BESIDE if page.follows else 1) if user else None
    )  # who is not let in is told nothing
    text = (
        _templates()
        .get_template(page.template)
        .render(
            {
                **page.data,
                **page.view,
                "page": page,
                "look": look,
                "desk": desk,
                "now": datetime.now(UTC),
                "moment": show.moment(zone),
                "theme": theme if theme in ("light", "dark") else None,
                "user": user,
                "form_secret": form_secret(request.session),
                "flash": None if _is_live(request) else _flash(desk, request),
                "path": request.scope["path"],
                "query": request.url.query,
                "params": request.query_params,
                "url": lambda path: root + path,
                "static": lambda name: f"{root}/static/{name}?{_fingerprint(name)}",
                "version": version("eventferry"),
            }
        )
    )
    return HTMLResponse(text, page.status)


def _flash(desk: Desk, request: Request) -> Mapping[str, Any] | None:
    """What has come of the button that was pressed before; once."""
    return desk.outcomes.take(request.session.pop("flash")) if "flash" in request.session else None


def _is_live(request: Request) -> bool:
    """Whether only the part is wanted that changes."""
    return request.headers.get("HX-Request") == "true"


@cache
def _templates() -> Environment:
    made = Environment(
        loader=PackageLoader(PACKAGE),
        autoescape=select_autoescape(default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(show.FILTERS)
    made.filters["preview"] = preview
    made.filters["json"] = lambda value: dumped(value, indent=True).decode()
    made.filters["json_line"] = lambda value: dumped(value).decode()
    return made


@cache
def _fingerprint(name: str) -> str:
    """So that a browser keeps a file for as long as it is the same."""
    return hashlib.sha256(files(PACKAGE).joinpath("static", name).read_bytes()).hexdigest()[:12]


def dumped(value: object, *, indent: bool = False) -> bytes:
    """The value as JSON."""
    options = orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_NON_STR_KEYS
    try:
        return orjson.dumps(
            value, default=_plain, option=options | (orjson.OPT_INDENT_2 if indent else 0)
        )
    except orjson.JSONEncodeError:  # an event may have a number of any size, and half characters
        return json.dumps(value, default=_plain, indent=2 if indent else None).encode()


def _plain(value: object) -> object:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        own = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
        derived = {
            name: getattr(value, name)
            for name, member in vars(type(value)).items()
            if isinstance(member, property) and not name.startswith("_")
        }
        return own | derived
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    if isinstance(value, (datetime, UUID)):
        return str(value)
    return dict(value) if isinstance(value, Mapping) else str(value)

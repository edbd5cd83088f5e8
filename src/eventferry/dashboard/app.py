"""The application: its layers, its routes, from its start to its end."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import quote

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send

from eventferry import metrics
from eventferry.dashboard import action
from eventferry.dashboard.access import SESSION_S, Access, is_own_form
from eventferry.dashboard.audit import audit
from eventferry.dashboard.desk import Desk
from eventferry.dashboard.events import event, events
from eventferry.dashboard.guard import Guard, own_path
from eventferry.dashboard.live import live
from eventferry.dashboard.overview import overview
from eventferry.dashboard.page import PACKAGE, Page, failed, html
from eventferry.dashboard.page import routes as pages
from eventferry.dashboard.parked import parked
from eventferry.dashboard.projections import projection, projections
from eventferry.dashboard.streams import stream, streams
from eventferry.dashboard.system import system
from eventferry.errors import EventFerryError

OPEN_TO_ALL = ("/static/", "/login", "/livez")
FOR_PROGRAMS = ("/api/", "/metrics", "/live")

PAGES = {
    "/": overview,
    "/parked": parked,
    "/audit": audit,
    "/system": system,
    "/projections": projections,
    "/projections/{name}": projection,
    "/streams": streams,
    "/streams/{environment}/{name}": stream,
    "/events": events,
    "/events/{id}": event,
}


def application(desk: Desk, owner: str) -> Starlette:
    """The dashboard of a service.

    Args:
        desk: What it shows.
        owner: Who has started it: whom its changes are put down to where nobody logs in.
    """
    access = Access(desk.settings, owner)
    # browsers send a cookie to all ports of a host: another dashboard's would overwrite it
    cookie = f"eventferry-{desk.config.service}-{desk.settings.port}"

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        try:
            yield
        finally:
            await desk.close()

    app = Starlette(
        routes=[
            *pages(PAGES),
            *action.routes(),
            Route("/live", live),
            Route("/livez", _livez),
            Route("/metrics", _metrics),
            Route("/login", _login, methods=["GET", "POST"]),
            Route("/logout", _logout, methods=["POST"]),
            Mount("/static", _Static(packages=[(PACKAGE, "static")])),
        ],
        middleware=[
            Middleware(Guard, settings=desk.settings),
            Middleware(_Rooted, root=desk.settings.root_path),
            Middleware(GZipMiddleware),
            Middleware(
                SessionMiddleware,
                secret_key=access.secret,
                session_cookie=cookie,
                max_age=SESSION_S,
                path=desk.settings.root_path or "/",
                same_site="strict",
                https_only=desk.settings.is_https,
            ),
            Middleware(_Entrance, access=access),
        ],
        exception_handlers={404: _not_found, 500: _broken},
        lifespan=lifespan,
    )
    app.state.desk, app.state.access = desk, access
    return app


@dataclass(frozen=True, slots=True)
class _Rooted:
    """Leaves out what all paths begin with, whether the proxy has done so already or not."""

    app: ASGIApp
    root: str

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.root and scope["type"] == "http":
            path: str = scope["path"]
            if path == self.root or path.startswith(self.root + "/"):
                scope = {**scope, "path": path.removeprefix(self.root) or "/"}
        await self.app(scope, receive, send)


@dataclass(frozen=True, slots=True)
class _Entrance:
    """Lets nobody in who has not said who he is."""

    app: ASGIApp
    access: Access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path: str = scope.get("path", "")
        if scope["type"] != "http" or path.startswith(OPEN_TO_ALL):
            await self.app(scope, receive, send)
            return
        request = Request(scope, receive)
        user = await self.access.user(request)
        if user is None:
            await self._refusal(request)(scope, receive, send)
            return
        scope["user_name"] = user
        await self.app(scope, receive, send)

    def _refusal(self, request: Request) -> Response:
        settings, path = self.access.settings, request.scope["path"]
        if settings.user_header:
            text = f"the proxy has not said who you are: {settings.user_header} is missing"
            return PlainTextResponse(text + "\n", HTTPStatus.UNAUTHORIZED)
        if path.startswith(FOR_PROGRAMS) or request.method != "GET":
            error = "log in: send Authorization: Bearer with the token, or Basic with a user's name"
            # to Basic a browser would open a window of its own, over a page that follows live
            is_basic = settings.users and not path.startswith("/live")
            headers = {"WWW-Authenticate": "Basic" if is_basic else "Bearer"}
            return JSONResponse({"error": error}, HTTPStatus.UNAUTHORIZED, headers)
        query = f"?{request.url.query}" if request.url.query else ""
        login = f"{settings.root_path}/login?next={quote(path + query)}"
        if "hx-request" in request.headers:  # not in the middle of an open page
            return Response(headers={"HX-Redirect": login})
        return RedirectResponse(login, 303)


class _Static(StaticFiles):
    """Files whose addresses change with them, so that they may be kept."""

    def file_response(self, *args: object, **kwargs: object) -> Response:
        response = super().file_response(*args, **kwargs)  # type: ignore[arg-type]
        response.headers["Cache-Control"] = "public, max-age=31536000, immutable"
        return response


async def _login(request: Request) -> Response:
    """The page where one says who one is, and what comes of it."""
    desk: Desk = request.app.state.desk
    access: Access = request.app.state.access
    after = own_path(request.query_params.get("next", "")) or "/"
    problem = None
    if request.method == "POST":
        form = await request.form()
        user = None
        if is_own_form(request, form):
            user = await access.logged_in(str(form.get("name", "")), str(form.get("password", "")))
        if user is not None:
            access.began(request.session, user)
            return RedirectResponse(desk.settings.root_path + after, 303)
        problem = "That name and password are not known here."
        if not desk.settings.users:
            problem = "That is not the token."
    page = Page(
        template="login.html",
        title="Log in",
        data={"problem": problem, "users": bool(desk.settings.users), "after": after},
        status=401 if problem else 200,
        is_live=False,
    )
    return await html(desk, request, page)


async def _logout(request: Request) -> Response:
    desk: Desk = request.app.state.desk
    access: Access = request.app.state.access
    if is_own_form(request, await request.form()):
        access.ended(request.session)
    return RedirectResponse(f"{desk.settings.root_path}/login", 303)


async def _livez(_: Request) -> Response:
    return JSONResponse({"status": "alive"})


async def _metrics(request: Request) -> Response:
    """What the stores know, for Prometheus; what was done, each worker says itself."""
    desk: Desk = request.app.state.desk
    look = await desk.look()
    drawn: dict[str, int | None] = {"local": None, "shared": None}
    with suppress(EventFerryError):
        async with desk.pools() as pools:
            drawn |= await metrics.positions_drawn(pools)
    seen = metrics.Look(service=desk.config.service, projections=look.projections, drawn=drawn)
    answer = metrics.exposition(seen.families())
    return Response(answer.body, answer.status, media_type=answer.content_type)


async def _not_found(request: Request, _: Exception) -> Response:
    message = f"there is no page {request.scope['path']}"
    if request.scope["path"].startswith(FOR_PROGRAMS):
        return JSONResponse({"error": message}, 404)
    return await html(request.app.state.desk, request, failed(404, message))


async def _broken(_: Request, __: Exception) -> Response:
    return PlainTextResponse(
        "The dashboard has a fault; its log says more. The command line does not depend on it.\n",
        500,
    )

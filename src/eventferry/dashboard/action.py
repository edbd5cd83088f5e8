"""What a user can do: for each button, its question, its fields, its command line.

GET  /do/retry/NAME   the question, with the line that answers it
POST /do/retry/NAME   runs the line, and goes back to the projection
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from eventferry.dashboard.access import is_own_form
from eventferry.dashboard.desk import Desk
from eventferry.dashboard.line import Line
from eventferry.dashboard.page import Page, Wrong, failed, html
from eventferry.errors import UnknownProjection


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """Something that the user says."""

    name: str
    """Its option is `--name`."""
    label: str
    required: bool = False
    choices: tuple[tuple[str, str], ...] = ()
    """What can be said, and what it means."""
    is_flag: bool = False
    is_given: bool = False
    """Whether the page that has asked says it, and the user does not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """A button."""

    name: str
    """Its command is `projections NAME`."""
    label: str
    question: str
    fields: tuple[Field, ...] = ()
    exactly_one: tuple[str, ...] = ()
    """Of these fields one has to be given."""
    always: tuple[str, ...] = ()
    """Options that have been agreed to by pressing the button."""
    has_plan: bool = False
    """Whether `--dry-run` says what would happen."""
    is_final: bool = False
    """Whether it can't be undone."""

    def line(self, projection: str, said: Mapping[str, str]) -> Line:
        """The command line.

        Raises:
            Wrong: something is missing, or can't be.
        """
        options: list[str] = []
        for field in self.fields:
            value = said.get(field.name, "").strip()
            if field.required and not value:
                raise Wrong(f"{field.label} is missing; say it, for those who will ask")
            if field.choices and value and value not in dict(field.choices):
                known = ", ".join(choice for choice, _ in field.choices)
                raise Wrong(f"{field.label}: expected one of {known}, not {value!r}")
            if value:
                options += [f"--{field.name}"] if field.is_flag else [f"--{field.name}", value]
        if self.exactly_one and sum(bool(said.get(n, "").strip()) for n in self.exactly_one) != 1:
            raise Wrong(f"say which: one of {', '.join(self.exactly_one)}")
        return Line(("projections", self.name, projection, *options, *self.always))


REASON = Field(name="reason", label="Reason", required=True)
WHY = Field(name="reason", label="Reason (for the audit)")

ACTIONS = {
    action.name: action
    for action in (
        Action(
            name="retry",
            label="Retry",
            question="Set it to run again: a worker picks it up at once, and counts attempts anew.",
            fields=(WHY,),
        ),
        Action(
            name="skip",
            label="Skip the event",
            question="Leave the event out: this projection will never handle it.",
            fields=(Field(name="event", label="Event", required=True, is_given=True), REASON),
            is_final=True,
        ),
        Action(
            name="pause",
            label="Pause",
            question="Let no run go on until it is resumed. The batch that is being handled ends.",
            fields=(REASON,),
        ),
        Action(name="resume", label="Resume", question="Let it go on where it was."),
        Action(
            name="reset",
            label="Reset",
            question="Let it begin again, elsewhere. First its handler's reset is called, if it "
            "has one, in the same transaction.",
            fields=(
                Field(
                    name="to",
                    label="Where it goes on",
                    required=True,
                    choices=(
                        ("start", "at the first event: everything is handled again"),
                        ("now", "at the end: what it has not handled is left out"),
                        (
                            "last-common",
                            "at the last event that it has read, and that is still there",
                        ),
                    ),
                ),
                Field(name="stop", label="Even if somebody runs it: end that run", is_flag=True),
                WHY,
            ),
            always=("--yes",),
            has_plan=True,
            is_final=True,
        ),
        Action(
            name="unpark",
            label="Unpark",
            question="Hand what is parked to the handler again, in order. What fails stays parked.",
            fields=(
                Field(name="event", label="Event", is_given=True),
                Field(name="entity", label="Entity", is_given=True),
                Field(name="error", label="Error", is_given=True),
                Field(name="all", label="All parked events", is_flag=True, is_given=True),
            ),
            exactly_one=("event", "entity", "error", "all"),
            has_plan=True,
        ),
    )
}


def routes() -> list[Route]:
    """Where the buttons lead."""
    return [Route("/do/{action}/{name}", do, methods=["GET", "POST"])]


async def do(request: Request) -> Response:
    """The question, or what has come of the answer."""
    desk: Desk = request.app.state.desk
    try:
        action, name = _asked(desk, request)
    except (Wrong, UnknownProjection) as error:
        return await html(desk, request, failed(404, str(error)))
    if desk.settings.read_only:
        refusal = "this dashboard was started with --read-only: nothing can be changed here"
        return await html(desk, request, failed(403, refusal))
    if request.method == "GET":
        return await html(desk, request, await _question(desk, action, name, request))
    form = {key: str(value) for key, value in (await request.form()).items()}
    if not is_own_form(request, form):
        refusal = "this form is from an earlier session: go back, load the page again, repeat it"
        return await html(desk, request, failed(403, refusal))
    try:
        line = action.line(name, form)
    except Wrong as error:
        return await html(desk, request, failed(400, str(error)))
    said = await desk.lines.run(line, request.scope["user_name"])
    await desk.look(fresh=True)
    request.session["flash"] = {"line": str(line), "text": said.text[:2000], "is_ok": said.is_ok}
    return RedirectResponse(desk.settings.root_path + _back(form, name), 303)


def _asked(desk: Desk, request: Request) -> tuple[Action, str]:
    action = ACTIONS.get(request.path_params["action"])
    if action is None:
        raise Wrong(f"there is no action {request.path_params['action']!r}")
    return action, desk.projection(request.path_params["name"]).name


async def _question(desk: Desk, action: Action, name: str, request: Request) -> Page:
    """What would be done, and what would come of it."""
    said = dict(request.query_params)
    for field in action.fields:
        if field.choices:
            said.setdefault(field.name, field.choices[0][0])
    missing = {f.name: "…" for f in action.fields if f.required and not said.get(f.name)}
    line, plan = action.line(name, {**said, **missing}), None
    if action.has_plan:
        plan = await desk.lines.run(line, request.scope["user_name"], "--dry-run")
    return Page(
        template="action.html",
        title=f"{action.label}: {name}",
        data={"action": action, "name": name, "said": said, "line": str(line), "plan": plan},
        is_live=False,
    )


def _back(form: Mapping[str, str], name: str) -> str:
    """Where the user came from, if that is a page of ours."""
    back = form.get("back", "")
    is_path = back.startswith("/") and not back.startswith("//") and not urlsplit(back).netloc
    return back if is_path and "\\" not in back else f"/projections/{name}"

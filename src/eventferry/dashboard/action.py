"""What a user can do: for each button, its question, its fields, its command line.

GET  /do/retry/NAME   the question, with the line that answers it
POST /do/retry/NAME   runs the line, and goes back to the projection
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.datastructures import ImmutableMultiDict
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from eventferry.dashboard.access import is_own_form
from eventferry.dashboard.desk import Desk
from eventferry.dashboard.guard import own_path
from eventferry.dashboard.line import BLANK, Line
from eventferry.dashboard.page import Page, Wrong, failed, html
from eventferry.errors import UnknownProjection
from eventferry.status import ProjectionStatus

LONGEST = 10_000
"""Characters of a value: a process takes no argument of any length."""
SHOWN = 20_000
"""Characters of what a line has said."""
Said = Mapping[str, Sequence[str]]
"""What the user has said, by field."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """Something that the user says."""

    name: str
    """Its option is `--name`."""
    label: str
    required: bool = False
    choices: tuple[tuple[str, str], ...] = ()
    """What can be said, and what it means."""
    number: str | None = None
    """The choice with which a number is said, in a field of that name."""
    is_flag: bool = False
    is_given: bool = False
    """Whether the page that has asked says it, and the user does not."""
    is_many: bool = False
    """Whether it can be said of several."""
    is_argument: bool = False
    """Whether it stands in the line without an option."""

    def options(self, said: Said, blank: str | None = None) -> list[str]:
        """Its part of the command line.

        Args:
            said: What the user has said.
            blank: Stands for what is missing; None: it must not.

        Raises:
            Wrong: it is missing, or can't be.
        """
        values = [value for value in said.get(self.name, ()) if value]
        if any("\0" in value or len(value) > LONGEST for value in values):
            raise Wrong(f"{self.label}: expected at most {LONGEST:,} characters, and none a NUL")
        if self.required and not values:
            if self.is_given:
                raise Wrong(f"{self.label} is missing: select at least one")
            if blank is None:
                raise Wrong(f"{self.label} is missing; say it, for those who will ask")
            values = [blank]
        if len(values) > 1 and not self.is_many:
            raise Wrong(f"{self.label}: expected one, not {len(values)}")
        if self.is_flag:
            return [f"--{self.name}"] if values else []
        meant = [self._meant(value, said, blank) for value in values]
        if self.is_argument:
            if options := [value for value in meant if value.startswith("-")]:
                raise Wrong(f"{self.label}: expected a name, not {options[0]!r}")
            return meant
        return [part for value in meant for part in (f"--{self.name}", value)]

    def _meant(self, value: str, said: Said, blank: str | None) -> str:
        if self.choices and value not in dict(self.choices):
            known = ", ".join(choice for choice, _ in self.choices)
            raise Wrong(f"{self.label}: expected one of {known}, not {value!r}")
        if self.number is None or value != self.number:
            return value
        number = "".join(said.get(self.number, ()))
        if not number and blank is not None:
            return blank
        if not (number.isascii() and number.isdigit()):
            raise Wrong(f"{self.number}: expected a number such as 1200, not {number!r}")
        return number


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

    def line(self, projection: str, said: Said, blank: str | None = None) -> Line:
        """The command line; `blank` stands for what is missing.

        Raises:
            Wrong: something is missing, where there is no blank, or can't be.
        """
        options = [part for field in self.fields for part in field.options(said, blank)]
        if self.exactly_one and sum(any(said.get(n, ())) for n in self.exactly_one) != 1:
            raise Wrong(f"say which: one of {', '.join(self.exactly_one)}")
        if projection.startswith("-"):  # behind `--` nothing is an option
            return Line(("projections", self.name, *options, *self.always, "--", projection))
        return Line(("projections", self.name, projection, *options, *self.always))

    def planned(self, projection: str, said: Said) -> Line | None:
        """The line whose consequences are shown before; None: nothing is, or it is not complete."""
        if not self.has_plan:
            return None
        try:
            return self.line(projection, {**said, "reason": ()})
        except Wrong:
            return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Button:
    """An action on a projection as it is now."""

    action: Action
    said: Mapping[str, str]
    line: Line
    """As it is before the user has said anything."""
    is_first: bool = False
    """Whether it is what most want now."""


REASON = Field(name="reason", label="Reason", required=True)
WHY = Field(name="reason", label="Reason (for the audit)")

ACTIONS = {
    action.name: action
    for action in (
        Action(
            name="retry",
            label="Retry",
            question="Set it to run again: a worker picks it up at once, and counts attempts anew.",
            fields=(
                Field(
                    name="also",
                    label="Other projection",
                    is_given=True,
                    is_many=True,
                    is_argument=True,
                ),
                WHY,
            ),
        ),
        Action(
            name="skip",
            label="Skip the event",
            question="Leave what is named here out: this projection will never handle it.",
            fields=(
                Field(name="event", label="Event", required=True, is_given=True, is_many=True),
                REASON,
            ),
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
                        ("position", "behind this position:"),
                    ),
                    number="position",
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
                Field(name="event", label="Event", is_given=True, is_many=True),
                Field(name="entity", label="Entity", is_given=True),
                Field(name="error", label="Error", is_given=True),
                Field(name="all", label="All parked events", is_flag=True, is_given=True),
            ),
            exactly_one=("event", "entity", "error", "all"),
            has_plan=True,
        ),
    )
}


def fitting(status: ProjectionStatus) -> list[Button]:
    """What can be done to a projection as it is."""
    failure = status.failure
    stands = status.state in ("failed", "retrying")
    fails_at = failure and failure.event_id and status.kind == "consuming"
    parks = status.parked and status.state not in ("paused", "deleted")
    offered: list[tuple[str, Mapping[str, str], bool]] = [
        ("retry", {}, stands),
        ("resume", {}, status.state == "paused"),
        ("unpark", {"all": "yes"}, bool(parks)),
        (
            "skip",
            {"event": str(failure and failure.event_id)},
            bool(fails_at) and (stands or status.state == "paused"),
        ),
        ("pause", {}, status.state not in ("paused", "deleted")),
        ("reset", {}, True),
    ]
    return [
        _button(ACTIONS[name], status.name, said, is_first=name in ("retry", "resume"))
        for name, said, is_offered in offered
        if is_offered
    ]


def _button(action: Action, projection: str, said: Mapping[str, str], *, is_first: bool) -> Button:
    given = _chosen(action, {name: [value] for name, value in said.items()})
    line = action.line(projection, given, BLANK)
    return Button(action=action, said=said, line=line, is_first=is_first)


def _chosen(action: Action, said: Said) -> dict[str, Sequence[str]]:
    """What is said, and the first choice where nothing is."""
    first = {f.name: [f.choices[0][0]] for f in action.fields if f.choices}
    return {**first, **{name: values for name, values in said.items() if any(values)}}


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
    try:
        if request.method == "GET":
            page = await _question(desk, action, name, _values(request.query_params), request)
            return await html(desk, request, page)
        return await _answered(desk, action, name, request)
    except Wrong as error:
        return await html(desk, request, failed(400, str(error)))


async def _answered(desk: Desk, action: Action, name: str, request: Request) -> Response:
    """Runs the line, and leads back with what it has said.

    Raises:
        Wrong: something is missing, or can't be.
    """
    async with request.form() as form:
        if not is_own_form(request, form):
            refusal = (
                "this form is from an earlier session: go back, load the page again, repeat it"
            )
            return await html(desk, request, failed(403, refusal))
        said = _values(form)
    line, planned = action.line(name, said), action.planned(name, said)
    if planned is not None and said.get("planned") != [str(planned)]:
        # another one has been chosen since: its consequences are shown first, too
        return await html(desk, request, await _question(desk, action, name, said, request))
    done = await desk.lines.run(line, request.scope["user_name"])
    await desk.look(fresh=True)
    request.session["flash"] = desk.outcomes.keep(
        line=str(line), text=done.text[:SHOWN], is_ok=done.is_ok
    )
    return RedirectResponse(desk.settings.root_path + _back(said, name), 303)


def _asked(desk: Desk, request: Request) -> tuple[Action, str]:
    action = ACTIONS.get(request.path_params["action"])
    if action is None:
        raise Wrong(f"there is no action {request.path_params['action']!r}")
    return action, desk.projection(request.path_params["name"]).name


def _values(pairs: ImmutableMultiDict[str, Any]) -> dict[str, Sequence[str]]:
    return {key: [str(value).strip() for value in pairs.getlist(key)] for key in pairs}


async def _question(desk: Desk, action: Action, name: str, said: Said, request: Request) -> Page:
    """What would be done, and what would come of it."""
    said = _chosen(action, said)
    line, planned = action.line(name, said, BLANK), action.planned(name, said)
    plan = None
    if planned is not None:
        plan = await desk.lines.run(planned, request.scope["user_name"], "--dry-run")
    return Page(
        template="action.html",
        title=f"{action.label}: {name}",
        data={
            "action": action,
            "name": name,
            "said": said,
            "line": str(line),
            "planned": str(planned),
            "plan": plan,
            "back": _back(said, name),
        },
        is_live=False,
    )


def _back(said: Said, name: str) -> str:
    """Where the user came from, if that is a page of ours."""
    return own_path("".join(said.get("back", ()))) or f"/projections/{name}"

"""Handlers: what a reference such as `myservice.handlers:on_user_registered` stands for.

Owns everything that can be known before the first event comes: whether the reference leads
somewhere, whether that can be called with an event, and how. So that a handler which can never
work is a line of text when the configuration is loaded, and not a failed projection at night.
It calls classes and factories, once, and handlers never.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NoReturn

from eventferry.errors import ConfigurationError
from eventferry.event import RecordedEvent

_REFERENCE = re.compile(r"(?P<module>\w+(\.\w+)*):(?P<attribute>\w+(\.\w+)*)(?P<call>\(\))?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Handler:
    """A handler that can be called, whatever it was made of."""

    reference: str
    """Where it was found: `module:attribute` or `module:factory()`."""
    is_async: bool
    """Whether `handle` and `handle_batch` return something to await."""
    handle: Callable[[RecordedEvent, Any], Any]
    """Takes an event and its context, also where the user's own takes the event alone."""
    handle_batch: Callable[[Sequence[RecordedEvent], Any], Any] | None
    """Takes all events of a batch and one context; None where the user has none."""
    reset: Callable[[Any], Any] | None = None
    """Takes a context, and undoes what the handler has written; None where the user has none."""


def load_handler(reference: str) -> Handler:
    """Imports what the reference names, and checks that events can be given to it.

    Args:
        reference: `module:attribute` (a function, a class, or an object that is called or has a
            method `handle`), or `module:factory()` for something that returns one of these.

    Raises:
        ConfigurationError: one mistake, in one line.
    """
    match = _REFERENCE.fullmatch(reference)
    if match is None:
        _refuse(
            f"{reference!r} is no reference to a handler; write 'package.module:name', "
            "or 'package.module:factory()' for what a factory returns"
        )
    target = _find(match["module"], match["attribute"])
    if match["call"]:
        target = _called(target, f"factory {reference}")
    return handler_of(target, reference)


def handler_of(target: Any, reference: str) -> Handler:
    """The handler that an object makes, which messages call `reference`.

    Raises:
        ConfigurationError: events can't be given to it; one mistake, in one line.
    """
    if inspect.isclass(target):
        _method(target, "handle", of=reference)  # before its __init__ does anything
        target = _called(target, f"class {reference}")
    return _handler(reference, target)


def _find(module_name: str, attribute: str) -> Any:
    target: Any = _import(module_name)
    found = module_name
    for name in attribute.split("."):
        owner = target
        try:
            target = getattr(owner, name)
        except AttributeError:
            _refuse(f"{found} has no {name!r}{_near_miss(name, dir(owner))}")
        if inspect.isclass(owner) and inspect.isfunction(inspect.getattr_static(owner, name)):
            _refuse(  # it would be called with an event as its self
                f"{name!r} is a method of class {found}, and needs an instance; "
                "give the class (with a method 'handle'), or a factory 'module:factory()'"
            )
        found = f"{found}.{name}"
    return target


def _import(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or name
        if name != missing and not name.startswith(f"{missing}."):
            _refuse(f"module {name} can't be imported: it imports {missing}, which is not there")
        hint = (
            "; modules are looked for in the folder of the configuration file, "
            "then among the installed packages"
        )
        _refuse(f"there is no module {missing}{'' if '.' in missing else hint}")
    except (Exception, SystemExit) as error:  # whatever a user's module does while it is imported
        _refuse(f"module {name} can't be imported: {_in_one_line(error)}")


def _called(target: Any, what: str) -> Any:
    """What a factory or a class returns."""
    if not callable(target):
        _refuse(f"{what} can't be called: it is {_kind(target)}; leave the () out")
    if inspect.iscoroutinefunction(target):
        _refuse(f"{what} is async; a factory must be a plain function")
    if not _accepts(target, 0):
        _refuse(
            f"{what} takes {_parameters(target)}, but is called without arguments; "
            "give the reference of a factory that fills them in: 'module:factory()'"
        )
    try:
        return target()
    except Exception as error:  # whatever a user's function raises
        _refuse(f"{what} raised {_in_one_line(error)}")


def _handler(reference: str, target: Any) -> Handler:
    what = f"handler {reference}"
    if callable(target) and not hasattr(target, "handle"):
        handle = target
    else:
        handle = _method(target, "handle", of=what)
    batch, reset = getattr(target, "handle_batch", None), getattr(target, "reset", None)
    is_async = _is_async(handle, what)
    for name, method in (("handle_batch", batch), ("reset", reset)):
        if method is not None and _is_async(method, f"{name} of {what}") is not is_async:
            _refuse(f"handle and {name} of {what} must both be async, or neither")
    if reset is not None and not _accepts(reset, 1):
        _refuse(f"reset of {what} takes {_parameters(reset)}; it is given the context alone")
    return Handler(
        reference=reference,
        is_async=is_async,
        handle=_uniform(handle, "event", what),
        handle_batch=batch and _uniform(batch, "events", f"handle_batch of {what}"),
        reset=reset,
    )


def _method(target: Any, name: str, *, of: str) -> Any:
    method = getattr(target, name, None)
    if method is None:
        _refuse(
            f"{of} is {_kind(target)} without a method {name!r}{_near_miss(name, dir(target))}; "
            f"a handler is a function, or has a method '{name}(event, context)'"
        )
    if not callable(method):
        _refuse(f"{name!r} of {of} can't be called: it is {_kind(method)}")
    return method


def _is_async(handle: Any, what: str) -> bool:
    layers = list(_layers(handle))
    if any(inspect.isgeneratorfunction(f) or inspect.isasyncgenfunction(f) for f in layers):
        _refuse(f"{what} has a 'yield' in it: calling it would do nothing. Take it out")
    return any(inspect.iscoroutinefunction(f) for f in layers)


def _layers(handle: Any) -> Iterator[Any]:
    """The handle and what it stands for: behind partials, callable objects, decorators."""
    while True:
        yield handle
        if isinstance(handle, partial):
            handle = handle.func
        elif hasattr(handle, "__wrapped__"):  # functools.wraps: behaves like what it wraps
            handle = handle.__wrapped__
        elif callable(handle) and not inspect.isroutine(handle):
            handle = type(handle).__call__
        else:
            return


def _uniform(handle: Any, first: str, what: str) -> Callable[[Any, Any], Any]:
    """`handle` as something that takes an event, or events, and a context.

    Raises:
        ConfigurationError: it takes neither one nor two arguments.
    """
    if not callable(handle):
        _refuse(f"{what} can't be called: it is {_kind(handle)}")
    if _accepts(handle, 2):
        takes_context = True
    elif _accepts(handle, 1):
        takes_context = False
    else:
        took, wanted = _parameters(handle), f"({first}) or ({first}, context)"
        _refuse(f"{what} takes {took}, but must take {wanted}")
    if _is_async(handle, what):
        return handle if takes_context else lambda event, _context: handle(event)

    def call(event: Any, context: Any) -> None:
        result = handle(event, context) if takes_context else handle(event)
        if result is not None and (inspect.isawaitable(result) or inspect.isgenerator(result)):
            # Nobody would run it: the event would count as handled, and nothing have happened.
            if hasattr(result, "close"):
                result.close()
            raise TypeError(
                f"{what} returned a {type(result).__name__}, which does nothing until somebody "
                "runs it: make the handler itself 'async def', without 'yield'"
            )

    return call


def _accepts(function: Any, arguments: int) -> bool:
    """Whether it can be called with so many positional arguments."""
    try:
        _signature(function).bind(*[None] * arguments)
    except TypeError:
        return False
    except ValueError:  # some built-in functions don't say
        return True
    return True


def _signature(function: Any) -> inspect.Signature:
    """What a call must look like; of a wrapper that passes `*args` on: of what it wraps.

    A wrapper with parameters of its own may well fill in others of what it wraps.
    """
    own = inspect.signature(function, follow_wrapped=False)
    passes_on = any(p.kind is p.VAR_POSITIONAL for p in own.parameters.values())
    if passes_on and hasattr(function, "__wrapped__"):
        return inspect.signature(function)
    return own


def _parameters(function: Any) -> str:
    """The parameters as they are written, without types: `(self, event, *, db)`."""
    signature = _signature(function)
    bare = [
        parameter.replace(annotation=inspect.Parameter.empty)
        for parameter in signature.parameters.values()
    ]
    return str(signature.replace(parameters=bare, return_annotation=inspect.Signature.empty))


def _kind(target: Any) -> str:
    if inspect.isclass(target):
        return "a class"
    return f"an object of type {type(target).__name__}"


def _near_miss(name: str, candidates: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, [c for c in candidates if not c.startswith("__")], n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _in_one_line(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())


def _refuse(mistake: str) -> NoReturn:
    raise ConfigurationError([mistake])

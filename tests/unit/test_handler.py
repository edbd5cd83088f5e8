"""`load_handler`: everything that a reference may stand for, and every way that it may not."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any, Protocol, cast

import pytest

from eventferry.errors import ConfigurationError
from eventferry.event import RecordedEvent
from eventferry.handler import Handler, load_handler

EVENT = cast(RecordedEvent, object())
CONTEXT = object()


class Service(Protocol):
    """A user's package `myservice` whose module `handlers` has this source."""

    def __call__(self, source: str) -> None: ...


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    def write(source: str) -> None:
        package = tmp_path / "myservice"
        package.mkdir()
        package.joinpath("__init__.py").touch()
        package.joinpath("handlers.py").write_text("calls = []\n" + dedent(source))

    monkeypatch.syspath_prepend(tmp_path)
    yield write
    for name in [name for name in sys.modules if name.partition(".")[0] == "myservice"]:
        del sys.modules[name]


def loaded(attribute: str) -> Handler:
    return load_handler(f"myservice.handlers:{attribute}")


def calls() -> list[Any]:
    return cast(list[Any], sys.modules["myservice.handlers"].calls)


def mistake(reference: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        load_handler(reference)
    [line] = caught.value.mistakes
    assert "\n" not in line
    return line


HANDLERS = """
    import functools

    def one(event): calls.append((event,))
    def two(event, context): calls.append((event, context))
    def any_number(*args): calls.append(args)
    def more_by_default(event, context, db=None): calls.append((event, context))

    class Handler:
        def handle(self, event): calls.append((event,))

    class Callable:
        def __call__(self, event, context): calls.append((event, context))

    class Nested:
        class Inner(Handler): pass
        static = staticmethod(two)

    class Needy:
        def __init__(self, db): self.db = db
        def handle(self, event, context): calls.append((event, context))

    def factory(): return Needy(db=1)
    def factory_of_function(): return one
    def factory_of_class(): return Handler

    an_object = Handler()
    a_callable = Callable()
    a_bound_method = an_object.handle
    a_partial = functools.partial(lambda db, event, context: two(event, context), "db")
    a_lambda = lambda event: one(event)

    def passing_on(function):
        @functools.wraps(function)
        def wrapper(*args, **kwargs): return function(*args, **kwargs)
        return wrapper

    def filling_in(function):
        @functools.wraps(function)
        def wrapper(event, context): return function(event, context, "db")
        return wrapper

    decorated = passing_on(one)
    @filling_in
    def with_db(event, context, db): calls.append((event, context))
"""


@pytest.mark.parametrize(
    ("attribute", "arguments"),
    [
        ("one", 1),
        ("two", 2),
        ("any_number", 2),
        ("more_by_default", 2),
        ("Handler", 1),
        ("Nested.Inner", 1),
        ("Nested.static", 2),
        ("an_object", 1),
        ("an_object.handle", 1),
        ("a_callable", 2),
        ("a_bound_method", 1),
        ("a_partial", 2),
        ("a_lambda", 1),
        ("decorated", 1),
        ("with_db", 2),
        ("factory()", 2),
        ("factory_of_function()", 1),
        ("factory_of_class()", 1),
        ("Handler()", 1),
    ],
)
def test_what_takes_events_is_called_with_as_much_as_it_takes(
    service: Service, attribute: str, arguments: int
) -> None:
    service(HANDLERS)
    handler = loaded(attribute)
    handler.handle(EVENT, CONTEXT)
    assert calls() == [(EVENT, CONTEXT)[:arguments]]
    assert not handler.is_async
    assert handler.handle_batch is None
    assert handler.reference == f"myservice.handlers:{attribute}"


@pytest.mark.parametrize(
    "attribute",
    ["one", "two", "Handler", "a_callable", "a_partial", "passed_on", "wrapping", "factory()"],
)
def test_async_handlers_are_recognised_and_awaited(service: Service, attribute: str) -> None:
    service(
        """
        import functools

        async def one(event): calls.append(event)
        async def two(event, context): calls.append(event)
        class Handler:
            async def handle(self, event, context): calls.append(event)
        class Callable:
            async def __call__(self, event): calls.append(event)
        a_callable = Callable()
        a_partial = functools.partial(two, context=None)
        @functools.wraps(two)
        def passed_on(*args): return two(*args)
        def plain(event): calls.append(event)
        @functools.wraps(plain)
        async def wrapping(*args): plain(*args)
        def factory(): return two
        """
    )
    handler = loaded(attribute)
    assert handler.is_async
    asyncio.run(handler.handle(EVENT, CONTEXT))
    assert calls() == [EVENT]


def test_a_class_is_instantiated_once(service: Service) -> None:
    service(
        """
        class Handler:
            def __init__(self): calls.append("made")
            def handle(self, event): calls.append(self)
        """
    )
    handler = loaded("Handler")
    handler.handle(EVENT, CONTEXT)
    handler.handle(EVENT, CONTEXT)
    made, first, second = calls()
    assert made == "made"
    assert first is second


@pytest.mark.parametrize(("parameters", "arguments"), [("events", 1), ("events, context", 2)])
def test_a_handler_of_batches_is_called_with_as_much_as_it_takes(
    service: Service, parameters: str, arguments: int
) -> None:
    service(
        f"""
        class Handler:
            def handle(self, event): pass
            def handle_batch(self, {parameters}): calls.append(({parameters},))
        """
    )
    handler = loaded("Handler")
    assert handler.handle_batch is not None
    handler.handle_batch([EVENT], CONTEXT)
    assert calls() == [([EVENT], CONTEXT)[:arguments]]


@pytest.mark.parametrize("returned", ["later()", "(x for x in [])"])
def test_a_plain_handler_that_returns_what_nobody_runs_raises(
    service: Service, returned: str
) -> None:
    service(
        f"""
        async def later(): calls.append("never")
        handle = lambda event: {returned}
        """
    )
    with pytest.raises(TypeError, match="does nothing until somebody runs it"):
        loaded("handle").handle(EVENT, CONTEXT)


def test_what_a_plain_handler_returns_otherwise_is_ignored(service: Service) -> None:
    service("def handle(event): return 1")
    assert loaded("handle").handle(EVENT, CONTEXT) is None


@pytest.mark.parametrize(
    "reference", ["", "a", "a.b", "a:", ":b", "a:b(", "a:b(1)", "a b:c", ".a:b"]
)
def test_what_is_no_reference_is_refused_with_an_example(reference: str) -> None:
    assert "write 'package.module:name'" in mistake(reference)


def test_a_missing_top_level_module_says_where_modules_are_looked_for() -> None:
    assert mistake("nowhere.handlers:f") == (
        "there is no module nowhere; modules are looked for in the folder of the "
        "configuration file, then among the installed packages"
    )


def test_a_missing_submodule_is_named(service: Service) -> None:
    service("")
    assert mistake("myservice.handler:f") == "there is no module myservice.handler"


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import nowhere", "it imports nowhere, which is not there"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("def f(:", "SyntaxError: invalid syntax (handlers.py, line 2)"),
        ("raise SystemExit('bye')", "SystemExit: bye"),
        ("from os import nothing", "ImportError: cannot import name 'nothing'"),
    ],
)
def test_a_module_that_does_not_import_is_reported_with_the_reason(
    service: Service, source: str, expected: str
) -> None:
    service(source)
    line = mistake("myservice.handlers:f")
    assert line.startswith("module myservice.handlers can't be imported: ")
    assert expected in line


WRONG = """
    def on_registered(event): pass
    nothing = None
    text = "x"
    def none(): pass
    def three(event, context, db): pass
    def keyword_only(event, *, db: int) -> None: pass
    def generator(event): yield
    async def async_generator(event): yield
    async def async_factory(): pass
    def failing_factory(): raise OSError("no\\nnetwork")
    def factory_of_nothing(): pass
    def factory_of_three(): return three
    class Empty: pass
    class NearMiss:
        def handel(self, event): pass
    class Needy:
        def __init__(self, db): pass
        def handle(self, event): pass
    class Failing:
        def __init__(self): raise KeyError("DB_URL")
        def handle(self, event): pass
    class Uncallable:
        handle = 1
    class NoArguments:
        def handle(self): pass
    class Method:
        def on_event(self, event): pass
    class MixedColours:
        def handle(self, event): pass
        async def handle_batch(self, events): pass
    class WrongBatch:
        def handle(self, event): pass
        def handle_batch(self): pass
    class UncallableBatch:
        def handle(self, event): pass
        handle_batch = 1
    class LazyBatch:
        def handle(self, event): pass
        def handle_batch(self, events): yield
    empty = Empty()
"""


@pytest.mark.parametrize(
    ("attribute", "expected"),
    [
        ("on_registred", "myservice.handlers has no 'on_registred'; did you mean 'on_registered'?"),
        ("NearMiss.x", "myservice.handlers.NearMiss has no 'x'"),
        ("nothing", "an object of type NoneType without a method 'handle'"),
        ("text", "an object of type str without a method 'handle'"),
        ("Empty", "myservice.handlers:Empty is a class without a method 'handle'; a handler is"),
        ("empty", "an object of type Empty without a method 'handle'; a handler is a function"),
        ("NearMiss", "without a method 'handle'; did you mean 'handel'?"),
        ("none", "takes (), but must take (event) or (event, context)"),
        ("three", "takes (event, context, db), but must take (event) or (event, context)"),
        ("keyword_only", "takes (event, *, db), but must take"),
        ("NoArguments", "takes (), but must take (event) or (event, context)"),
        ("generator", "has a 'yield' in it: calling it would do nothing"),
        ("async_generator", "has a 'yield' in it"),
        ("Needy", "takes (db), but is called without arguments; give the reference of a factory"),
        ("Failing", "class myservice.handlers:Failing raised KeyError: 'DB_URL'"),
        ("failing_factory()", "failing_factory() raised OSError: no network"),
        ("three()", "factory myservice.handlers:three() takes (event, context, db), but is called"),
        ("text()", "can't be called: it is an object of type str; leave the () out"),
        ("async_factory()", "is async; a factory must be a plain function"),
        ("factory_of_nothing()", "an object of type NoneType without a method 'handle'"),
        ("factory_of_three()", "takes (event, context, db), but must take"),
        ("Uncallable", "'handle' of myservice.handlers:Uncallable can't be called"),
        ("Method.on_event", "'on_event' is a method of class myservice.handlers.Method, and needs"),
        ("MixedColours", "must both be async, or neither"),
        ("WrongBatch", "takes (), but must take (events) or (events, context)"),
        ("UncallableBatch", "handle_batch of handler myservice.handlers:UncallableBatch can't be"),
        ("LazyBatch", "handle_batch of handler myservice.handlers:LazyBatch has a 'yield'"),
    ],
)
def test_what_can_never_handle_an_event_is_refused_in_one_line(
    service: Service, attribute: str, expected: str
) -> None:
    service(WRONG)
    assert expected in mistake(f"myservice.handlers:{attribute}")

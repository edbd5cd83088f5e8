"""`config.load`: what a file says, and every way that it can be wrong."""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eventferry import config
from eventferry._json import quoted
from eventferry.config import Config, _shape
from eventferry.errors import ConfigurationError

URLS = {
    "EVENTFERRY_LOCAL_URL": "postgresql://users:secret@db/users",
    "EVENTFERRY_SHARED_URL": "postgresql://users:secret@db/shared",
}

CONSUMING = """
[consuming.profiles]
stream_names = ["users-stream"]
environment = "shared"
handler = "myservice:handle"
"""

FULL = """
service = "boilerplate"
poll_interval = "500ms"

[producing.boilerplate-users-projection]
stream_name = "boilerplate-users-stream"
shared_stream = "users-stream"
background_process = true

[consuming.buyer-search_profile-projection]
stream_names = ["buyer-search_profiles-stream", "users-stream"]
environment = "shared"
handler = "myservice.handlers:Handler"
event_types = ["ProfileCreated"]
queue = "slow"
start = "now"
batch_size = 10
batch_time = "5m"
handler_timeout = "1h"
"""

Load = Callable[..., Config]


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    """Loads a file with this content, from its own folder."""
    monkeypatch.chdir(tmp_path)

    def load(content: str | bytes, environ: dict[str, str] = URLS, **options: Any) -> Config:
        file = tmp_path / "projections.toml"
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
        return config.load(environ=environ, **{"import_handlers": False, **options})

    return load


@pytest.fixture
def mistakes(load: Load) -> Callable[..., list[str]]:
    def mistakes(content: str | bytes, *arguments: Any, **options: Any) -> list[str]:
        with pytest.raises(ConfigurationError) as caught:
            load(content, *arguments, **options)
        assert "secret" not in str(caught.value)
        assert all("\n" not in mistake for mistake in caught.value.mistakes)
        return list(caught.value.mistakes)

    return mistakes


@pytest.fixture(autouse=True)
def import_path(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(sys, "path", sys.path.copy())
    yield
    sys.modules.pop("myservice", None)


# ---- what a file says


def test_a_full_file_is_read(load: Load) -> None:
    loaded = load(FULL)
    assert loaded.service == "boilerplate"
    assert loaded.poll_interval == timedelta(milliseconds=500)
    assert loaded.notes == ()
    [producing], [consuming] = loaded.producing, loaded.consuming
    assert producing.name == "boilerplate-users-projection"
    assert producing.streams == ("boilerplate-users-stream",)
    assert (producing.environment, producing.shared_stream) == ("local", "users-stream")
    assert producing.background
    assert consuming.streams == ("buyer-search_profiles-stream", "users-stream")
    assert (consuming.environment, consuming.shared_stream) == ("shared", None)
    assert consuming.event_types == frozenset({"ProfileCreated"})
    assert (consuming.queue, consuming.start, consuming.batch_size) == ("slow", "now", 10)
    assert consuming.batch_time == timedelta(minutes=5)
    assert consuming.handler_timeout == timedelta(hours=1)


def test_defaults_are_those_of_the_manual(load: Load) -> None:
    loaded = load(f'service = "a"\n[producing.b]\nstream_name = "s"\n{CONSUMING}')
    assert loaded.poll_interval == timedelta(seconds=1)
    for projection in loaded.projections.values():
        assert not projection.background
        assert projection.queue == "domain-events"
        assert projection.start == "start"
        assert projection.event_types is None
        assert projection.batch_time == timedelta(seconds=1)
        assert projection.handler_timeout == timedelta(seconds=60)
    assert loaded.projections["b"].shared_stream == "s"
    assert [p.batch_size for p in loaded.projections.values()] == [5000, 1000]
    assert list(loaded.projections) == ["b", "profiles"]


def test_a_service_without_projections_is_fine(load: Load) -> None:
    assert load('service = "a"').projections == {}


def test_defaults_count_where_neither_file_nor_environment_says_anything(load: Load) -> None:
    urls = {key: f"postgresql://default/{key}" for key in ("local_url", "shared_url")}
    environ = {"EVENTFERRY_SHARED_URL": "postgresql://environment/shared"}

    nothing = load('service = "a"', {}, defaults=urls)
    both = load('service = "a"\nlocal_url = "postgresql://file/local"', environ, defaults=urls)

    assert (nothing.local_url, nothing.shared_url) == tuple(urls.values())
    assert (both.local_url, both.shared_url) == ("postgresql://file/local", *environ.values())


def test_the_environment_wins_over_the_file(load: Load) -> None:
    urls = 'local_url = "postgresql://a/l"\nshared_url = "postgresql://a/s"\n'
    loaded = load(f'service = "a"\n{urls}', {"EVENTFERRY_SHARED_URL": "postgres://b/s"})
    assert loaded.local_url == "postgresql://a/l"
    assert loaded.shared_url == "postgres://b/s"


def test_an_empty_variable_counts_as_not_set(load: Load) -> None:
    urls = 'local_url = "postgresql://a/l"\nshared_url = "postgresql://a/s"\n'
    loaded = load(f'service = "a"\n{urls}', {"EVENTFERRY_LOCAL_URL": "", "EVENTFERRY_CONFIG": ""})
    assert loaded.local_url == "postgresql://a/l"


@pytest.mark.parametrize(
    ("line", "variable", "expected"),
    [
        ("", "", URLS["EVENTFERRY_LOCAL_URL"]),
        ('local_listen_url = "off"', "", None),
        ('local_listen_url = "postgresql://d/l"', "", "postgresql://d/l"),
        ('local_listen_url = "postgresql://d/l"', "off", None),
    ],
)
def test_listening_is_at_the_url_itself_or_elsewhere_or_off(
    load: Load, line: str, variable: str, expected: str | None
) -> None:
    environ = {**URLS, "EVENTFERRY_LOCAL_LISTEN_URL": variable}
    loaded = load(f'service = "a"\n{line}', environ)
    assert loaded.local_listen_url == expected
    assert loaded.shared_listen_url == URLS["EVENTFERRY_SHARED_URL"]


def test_a_config_shows_no_url(load: Load) -> None:
    assert "secret" not in repr(load(FULL))


@pytest.mark.parametrize(
    ("text", "duration"),
    [
        ("1ms", timedelta(milliseconds=1)),
        ("30s", timedelta(seconds=30)),
        ("5m", timedelta(minutes=5)),
        ("576h", timedelta(days=24)),
    ],
)
def test_durations_have_a_unit(load: Load, text: str, duration: timedelta) -> None:
    assert load(f'service = "a"\npoll_interval = "{text}"').poll_interval == duration


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        ("postgresql://h/a", "postgresql://h/a", True),
        ("postgresql://u:p@h/a", "postgres://v@h:5432/a?sslmode=require", True),
        ("postgresql://localhost/a", "postgresql://127.0.0.1/a", True),
        ("postgresql:///a", "postgresql://localhost:5432/a", True),
        ("postgresql:///a?host=/run/pg", "postgresql:///a?host=%2Frun%2Fpg", True),
        ("postgresql://H.example/a", "postgresql://h.example/a", True),
        ("postgresql://h/a", "postgresql://h/b", False),
        ("postgresql://h/a", "postgresql://h:6432/a", False),
        ("postgresql://h/a", "postgresql://i/a", False),
        ("postgresql:///a?host=/run/pg", "postgresql:///a", False),
    ],
)
def test_the_same_database_is_recognised_from_its_urls(
    load: Load, a: str, b: str, same: bool
) -> None:
    urls = {"EVENTFERRY_LOCAL_URL": a, "EVENTFERRY_SHARED_URL": b}
    assert load('service = "a"', urls).same_database is same


def test_a_deprecated_stream_name_is_noted(load: Load) -> None:
    loaded = load('service = "a"' + CONSUMING.replace('s = ["users-stream"]', ' = "users-stream"'))
    assert loaded.projections["profiles"].streams == ("users-stream",)
    assert loaded.notes == (
        (
            "projections.toml: consuming.profiles.stream_name: deprecated; "
            'write stream_names = ["users-stream"]'
        ),
    )


def test_two_ferries_of_one_stream_are_noted(load: Load) -> None:
    table = '[producing.{}]\nstream_name = "s"\n'
    [note] = load('service = "x"\n' + table.format("a") + table.format("b")).notes
    assert note.startswith("projections.toml: producing.b: ferries 's' to 's', as producing.a does")


def test_a_stream_ferried_to_two_targets_needs_no_note(load: Load) -> None:
    a, b = '[producing.a]\nstream_name = "s"\n', '[producing.b]\nstream_names = ["s"]\n'
    assert load(f'service = "x"\n{a}{b}shared_stream = "t"').notes == ()


# ---- where the file is


def test_the_file_is_found_in_a_parent_folder(
    load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    load('service = "parent"')
    monkeypatch.chdir(below)
    assert config.load(environ=URLS).path == tmp_path / "projections.toml"


def test_a_named_file_wins_over_the_variable_which_wins_over_the_folder(
    load: Load, tmp_path: Path
) -> None:
    named, variable = tmp_path / "named.toml", tmp_path / "variable.toml"
    named.write_text('service = "named"')
    variable.write_text('service = "variable"')
    environ = {**URLS, "EVENTFERRY_CONFIG": str(variable)}
    assert load('service = "folder"').service == "folder"
    assert load('service = "folder"', environ).service == "variable"
    assert load('service = "folder"', environ, path="named.toml").service == "named"


def test_a_pyproject_with_a_section_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pyproject.toml").write_text('[tool.eventferry]\nservice = "a"\npol = 1')
    with pytest.raises(ConfigurationError, match=r"^pyproject.toml: tool.eventferry.pol: unknown"):
        config.load(environ=URLS)


def test_a_pyproject_without_a_section_is_passed_over(
    load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load('service = "above"')
    below = tmp_path / "below"
    below.mkdir()
    (below / "pyproject.toml").write_text("[tool.ruff]\n# not [tool.eventferry]\nbroken")
    monkeypatch.chdir(below)
    assert config.load(environ=URLS).service == "above"
    with pytest.raises(ConfigurationError, match="is not TOML"):
        config.load("pyproject.toml", environ=URLS)
    (below / "pyproject.toml").write_text("")
    with pytest.raises(ConfigurationError, match=r"has no table \[tool.eventferry\]"):
        config.load("pyproject.toml", environ=URLS)


def test_no_file_says_where_it_was_looked_for_and_how_to_begin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigurationError) as caught:
        config.load(environ=URLS)
    for part in (str(tmp_path), "--config", "EVENTFERRY_CONFIG", "`eventferry init`"):
        assert part in str(caught.value)


def test_a_file_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"nowhere.toml: there is no such file"):
        config.load(tmp_path / "nowhere.toml", environ=URLS)
    with pytest.raises(ConfigurationError, match="can't be read: Is a directory"):
        config.load(tmp_path, environ=URLS)
    (tmp_path / "loop.toml").symlink_to("loop.toml")
    with pytest.raises(ConfigurationError, match=r"loop.toml: can't be read: Too many levels of"):
        config.load(tmp_path / "loop.toml", environ=URLS)


# ---- handlers


def test_handlers_are_looked_for_in_the_folder_of_the_file(load: Load, tmp_path: Path) -> None:
    (tmp_path / "myservice.py").write_text("def handle(event): pass")
    for _ in range(2):
        [projection] = load(f'service = "a"\n{CONSUMING}', import_handlers=True).consuming
        assert projection.handler is not None
        assert projection.handler.reference == "myservice:handle"
    assert sys.path.count(str(tmp_path)) == 1
    assert sys.path[0] == str(tmp_path)


def test_mistakes_of_handlers_come_with_the_others(
    mistakes: Callable[..., list[str]], tmp_path: Path
) -> None:
    (tmp_path / "myservice.py").write_text("def handel(event): pass")
    assert mistakes(f'service = ""\n{CONSUMING}bach_size = 1', import_handlers=True) == [
        (
            "projections.toml: service: must be 1 to 100 letters (A to Z), digits, '_', '-' and "
            "'.', not ''"
        ),
        "projections.toml: consuming.profiles.bach_size: unknown key; did you mean 'batch_size'?",
        (
            "projections.toml: consuming.profiles.handler: myservice has no 'handle'; "
            "did you mean 'handel'?"
        ),
    ]


# ---- what can be wrong


def test_all_mistakes_are_reported_at_once(mistakes: Callable[..., list[str]]) -> None:
    content = """
        servce = "a"
        [producing.a]
        handler = "a:b"
        [consuming.a]
        stream_names = ["Users"]
        enviroment = "shared"
        batch_size = 0
        [consuming.b]
    """
    assert mistakes(content, {}) == [
        (
            'projections.toml: service: missing; write service = "name-of-your-service" at the top '
            "of the file"
        ),
        (
            "projections.toml: local_url: missing; set EVENTFERRY_LOCAL_URL, or write local_url = "
            '"postgresql://…" at the top of the file'
        ),
        (
            "projections.toml: shared_url: missing; set EVENTFERRY_SHARED_URL, or write "
            'shared_url = "postgresql://…" at the top of the file'
        ),
        "projections.toml: servce: unknown key; did you mean 'service'?",
        'projections.toml: producing.a: reads no stream; write stream_name = "…"',
        (
            "projections.toml: producing.a.handler: unknown key here: only consuming projections "
            "have it; remove it"
        ),
        "projections.toml: consuming.a: the name is taken by producing.a; rename one",
        (
            "projections.toml: consuming.a.stream_names: 'Users' is no stream name: it must be "
            "lower-case letters, digits and underscores, begin with a letter, and may have single "
            "hyphens between; did you mean 'users'?"
        ),
        "projections.toml: consuming.a.batch_size: must be a whole number from 1 to 100000, not 0",
        (
            'projections.toml: consuming.a.environment: missing; write environment = "shared", or '
            '"local" to read this service\'s own store'
        ),
        'projections.toml: consuming.a.handler: missing; write handler = "package.module:name"',
        "projections.toml: consuming.a.enviroment: unknown key; did you mean 'environment'?",
        'projections.toml: consuming.b: reads no stream; write stream_names = ["…"]',
        (
            'projections.toml: consuming.b.environment: missing; write environment = "shared", or '
            '"local" to read this service\'s own store'
        ),
        'projections.toml: consuming.b.handler: missing; write handler = "package.module:name"',
    ]


def test_what_people_get_wrong_is_one_line_each(
    mistakes: Callable[..., list[str]], tmp_path: Path
) -> None:
    (tmp_path / "myservice.py").write_text("def three(event, context, db): pass")
    content = """
        service = "a"
        local_url = "mysql://u:secret@h/d"
        [producing.p]
        stream_name = "s"
        [consuming.p]
        stream_name = "s"
        stream_names = ["s"]
        enviroment = "shared"
        environment = "everywhere"
        handler = "myservice:three"
        batch_time = "1 second"
        [consuming.q]
        stream_names = ["s"]
        environment = "local"
        handler = "myservise:three"
    """
    lines = mistakes(content, {"EVENTFERRY_SHARED_URL": "mysql://"}, import_handlers=True)
    url = (
        "must be a URL such as 'postgresql://user:password@host:5432/database'; it must begin with "
        "postgresql:// or postgres://"
    )
    assert lines == [
        f"projections.toml: local_url: {url}",
        f"EVENTFERRY_SHARED_URL: {url}",
        "projections.toml: consuming.p: the name is taken by producing.p; rename one",
        "projections.toml: consuming.p: has stream_name and stream_names; keep stream_names",
        (
            "projections.toml: consuming.p.batch_time: must be a duration such as '500ms', '30s', "
            "'5m' or '1h', not '1 second'"
        ),
        (
            "projections.toml: consuming.p.environment: must be 'local' or 'shared', "
            "not 'everywhere'"
        ),
        "projections.toml: consuming.p.enviroment: unknown key; did you mean 'environment'?",
        (
            "projections.toml: consuming.p.handler: handler myservice:three takes "
            "(event, context, db), but must take (event) or (event, context)"
        ),
        (
            "projections.toml: consuming.q.handler: there is no module myservise; modules are "
            "looked for in the folder of the configuration file, then among the installed packages"
        ),
    ]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("service = 1", "service: must be 1 to 100 letters"),
        ('service = ".."', "service: must be 1 to 100 letters"),
        ('service = "a b"', "'-' and '.', not 'a b'"),
        ("poll_interval = 30", "'1h', with its unit, not 30; did you mean '30s'?"),
        ("poll_interval = 1.5", "must be a duration such as '500ms', '30s', '5m' or '1h', not 1.5"),
        ("poll_interval = true", "must be a duration such as '500ms', '30s', '5m' or '1h', not T"),
        ('poll_interval = "1 day"', "not '1 day'"),
        ('poll_interval = "0s"', "must be more than 0 and at most 24 days ('576h'), not '0s'"),
        ('poll_interval = "999999999h"', "at most 24 days"),
        ("local_listen_url = false", "database', not bool; or 'off'"),
        ('shared_listen_url = "of"', "it must begin with postgresql:// or postgres://; or 'off'"),
        ("producing = 1", "producing: must be tables, each with a name: [producing.NAME]"),
        ("[[consuming]]", "consuming: must be tables, each with a name: [consuming.NAME]"),
        ("[consumer.a]", "consumer: unknown key; did you mean 'consuming'?"),
        ("zzz = 1", "zzz: unknown key; known are service, local_url, shared_url,"),
        ('"z z\\n" = 1', '"z z\\n": unknown key'),
        (
            '[producing]\nstream_name = "s"',
            "producing.stream_name: must be a table, not 's'; a pro",
        ),
    ],
)
def test_a_mistake_at_the_top_is_explained(
    mistakes: Callable[..., list[str]], line: str, expected: str
) -> None:
    service = "" if line.startswith("service") else 'service = "a"\n'
    [mistake] = mistakes(service + line)
    assert mistake.startswith("projections.toml: ")
    assert expected in mistake


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('stream_name = "s"', "p: has stream_name and stream_names; keep stream_names"),
        ("stream_names = []", "p.stream_names: must be a list of one or more stream names, not []"),
        ('stream_names = "s"', "must be a list of one or more stream names, not 's'"),
        ("stream_names = [1]", "p.stream_names: a stream name must be text, not int"),
        ('stream_names = ["s", "s"]', "p.stream_names: 's' more than once"),
        ('environment = "share"', "p.environment: must be 'local' or 'shared', not 'share'"),
        ("handler = 1", "p.handler: must be text such as 'package.module:name', not 1"),
        ('event_types = "A"', "p.event_types: must be a list of event types, not 'A'"),
        ("event_types = [1]", "must be a list of event types, not [1]"),
        ("event_types = []", "is empty: the handler would get nothing"),
        ('background_process = "yes"', "p.background_process: must be true or false, not 'yes'"),
        ("queue = 1", "p.queue: must be 1 to 100 letters"),
        ('start = "end"', "p.start: must be 'start', 'now' or a position (0 or more), not 'end'"),
        ("start = -1", "or a position (0 or more), not -1"),
        ("start = true", "or a position (0 or more), not True"),
        (f"start = {2**63}", "or a position (0 or more), not 9223372036854775808"),
        ("batch_size = 1.0", "p.batch_size: must be a whole number from 1 to 100000, not 1.0"),
        ("batch_size = true", "must be a whole number from 1 to 100000, not True"),
        ("batch_time = 1", "did you mean '1s'?"),
        ("handler_timeout = 60", "did you mean '60s'?"),
        ("partitions = 5", "p.partitions: unknown key: this version of eventferry does not have"),
        ("attempts = 0", "must be a whole number from 1 to 1000, not 0"),
        ("backoff = 1", "did you mean '1s'?"),
        ('on_failure = "parc"', "must be 'stop', 'park' or 'skip', not 'parc'"),
        ("storm = 1", "must be a whole number from 2 to 100000, not 1"),
        ('shared_stream = "s"', "only producing projections have it"),
        ("[consuming.p.q]", 'p.q: unknown key; a name with dots needs quotes, as in [consuming."a'),
    ],
)
def test_a_mistake_in_a_consuming_projection_is_explained(
    mistakes: Callable[..., list[str]], line: str, expected: str
) -> None:
    table = {
        "stream_names": 'stream_names = ["s"]',
        "environment": 'environment = "local"',
        "handler": 'handler = "a:b"',
    }
    table[line.partition(" ")[0]] = line
    [mistake] = mistakes('service = "a"\n[consuming.p]\n' + "\n".join(table.values()))
    assert mistake.startswith("projections.toml: consuming.p")
    assert expected in mistake


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ('stream_names = ["a", "b"]', "p.stream_names: must be one stream, not 2; write a produc"),
        ('stream_name = "a"\nstream_names = ["a"]', "p: has stream_name and stream_names; keep st"),
        ('stream_name = "A"', "p.stream_name: 'A' is no stream name"),
        ('stream_name = ["a"]', "p.stream_name: a stream name must be text, not list"),
        ('stream_name = "a"\nshared_stream = "é"', "p.shared_stream: 'é' is no stream name"),
        (
            'stream_name = "a"\non_failure = "park"',
            "p.on_failure: must be 'stop': a shared stream h",
        ),
        ('stream_name = "a"\nenvironment = "local"', "only consuming projections have it"),
    ],
)
def test_a_mistake_in_a_producing_projection_is_explained(
    mistakes: Callable[..., list[str]], lines: str, expected: str
) -> None:
    [mistake] = mistakes(f'service = "a"\n[producing.p]\n{lines}')
    assert mistake.startswith("projections.toml: producing.p")
    assert expected in mistake


def test_a_projections_name_has_no_spaces(mistakes: Callable[..., list[str]]) -> None:
    [mistake] = mistakes('service = "a"\n[producing."my users"]\nstream_name = "s"')
    assert mistake.startswith('projections.toml: producing."my users": the name of a projection mu')


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("mysql://u:secret@h/d", "it must begin with postgresql:// or postgres://"),
        ("host=h password=secret", "it must begin with postgresql:// or postgres://"),
        ("postgresql+psycopg://u:secret@h/d", "without a driver: leave the '+…' out"),
        ("postgresql://u:sec@secret@h/d", "must be percent-encoded"),
        ("postgresql://u:secret/pw@h/d", "must be percent-encoded"),
        ("postgresql://u:1/secret@h/d", "must be percent-encoded"),
        ("postgresql://u/secret:pw@h/d", "must be percent-encoded"),
        ("postgresql://u:secret?a@b@h/d", "must be percent-encoded"),
        ("postgresql://h:secret/d", "PostgreSQL does not understand this one"),
        ("postgresql://u:secret@h/d?nothing=1", "PostgreSQL does not understand this one"),
        ("postgresql://u:secret@h/%zz", "PostgreSQL does not understand this one"),
    ],
)
def test_a_wrong_url_is_explained_and_never_shown(
    mistakes: Callable[..., list[str]], url: str, expected: str
) -> None:
    [from_environment] = mistakes('service = "a"', {**URLS, "EVENTFERRY_LOCAL_URL": url})
    assert from_environment.startswith("EVENTFERRY_LOCAL_URL: must be a URL such as ")
    assert expected in from_environment
    shared = {"EVENTFERRY_SHARED_URL": URLS["EVENTFERRY_SHARED_URL"]}
    [from_file] = mistakes(f'service = "a"\nlocal_url = {quoted(url)}', shared)
    assert from_file.startswith("projections.toml: local_url: must be a URL such as ")


@pytest.mark.parametrize(
    "line",
    [
        "service = {url}",
        "poll_interval = {url}",
        "servce = {url}",
        "[producing]\nstream_name = {url}",
        "[producing.p]\nlocal_url = {url}",
        "[producing.p]\nstream_name = {url}",
        "[consuming.p]\nstream_names = [{url}, {url}]",
        '[consuming.p]\nstream_names = ["s"]\nenvironment = {url}',
        '[consuming.p]\nstream_names = ["s"]\nhandler = {url}',
        "[consuming.p]\nevent_types = {{a = [{url}]}}",
    ],
)
def test_a_url_in_a_wrong_place_is_not_shown(mistakes: Callable[..., list[str]], line: str) -> None:
    assert mistakes(line.format(url='"postgresql://u:secret@h/d"'), import_handlers=True)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:p%40%2F%3F@h:5432/d",
        "postgresql://u:p?#[:@h/d?application_name=a@b",
        "postgres://u@[::1]:5432,h:/d?target_session_attrs=any",
        "postgresql://%2Fvar%2Frun/d%40e",
        "postgresql:///d?host=/var/run&user=u@domain",
        "postgresql://",
    ],
)
def test_whatever_else_postgresql_takes_for_a_url_is_one(load: Load, url: str) -> None:
    assert load('service = "a"', {**URLS, "EVENTFERRY_LOCAL_URL": url}).local_url == url


def test_producing_is_refused_where_both_stores_are_one_database(
    mistakes: Callable[..., list[str]],
) -> None:
    same = dict.fromkeys(URLS, "postgresql://u:secret@h/d")
    [mistake] = mistakes('service = "a"\n[producing.p]\nstream_name = "s"', same)
    assert mistake.startswith("projections.toml: producing: local_url and shared_url name the same")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("service = ", "is not TOML: Invalid value (at end of document)"),
        ("service = 'a'\n???", "(at line 2, column 1)"),
        (b"# ok\nservice = '\xff'", "is not UTF-8: the first wrong byte is in line 2"),
        ("a = " + "[" * 5_000, "nests too deeply"),
        ("a" + ".a" * 5_000 + " = 1", "nests too deeply"),
        ("[consuming.a]\n[consuming.a]", "Cannot declare ('consuming', 'a') twice (at line 2,"),
        ("service = 'a'\nservice = 'b'\n", "Cannot overwrite a value (at line 2, column 14)"),
        ("a = " + "1" * 5_000, "is not TOML: Exceeds the limit"),
    ],
)
def test_a_file_that_is_not_toml_is_explained(
    mistakes: Callable[..., list[str]], content: str | bytes, expected: str
) -> None:
    [mistake] = mistakes(content)
    assert mistake.startswith("projections.toml: ")
    assert expected in mistake


def test_a_byte_order_mark_is_accepted(load: Load) -> None:
    assert load(b'\xef\xbb\xbfservice = "a"').service == "a"


# ---- whatever comes

KEYS = st.sampled_from(
    [
        *_shape.SettingsTable.model_fields,
        *_shape.ProducingTable.model_fields,
        *_shape.ConsumingTable.model_fields,
        *["producing", "consuming", "attempts", "a.b", ""],
    ]
) | st.text(st.characters(codec="utf-8"), max_size=5)
SCALARS = (
    st.sampled_from(
        ["a", "off", "1s", "shared", "start", "users-stream", "postgresql://h/d", "a:b"]
    )
    | st.text(st.characters(codec="utf-8"), max_size=10)
    | st.integers()
    | st.booleans()
    | st.floats()
    | st.datetimes(timezones=st.none())
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=8,
)
TABLES = st.dictionaries(KEYS, st.dictionaries(KEYS, VALUES, max_size=6) | VALUES, max_size=3)
FILES = st.dictionaries(KEYS, VALUES, max_size=5) | st.fixed_dictionaries(
    {"service": st.just("a")}, optional={"producing": TABLES, "consuming": TABLES}
)


@given(FILES)
@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
def test_whatever_comes_is_a_config_or_a_list_of_mistakes(content: dict[str, Any]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tomllib, "loads", lambda _: content)
        assert_lines(__file__, URLS)


URL_LINES = """
local_url = "postgresql://users:secret@db/users"
shared_url = "postgresql://users:secret@db/shared"
local_listen_url = "postgresql://users:secret@db:5432/users"
shared_listen_url = "off"
"""
# Of every type that TOML has, and what is nearly one.
TOML_VALUES = [
    *["true", "0", "-1", str(2**70), "1e400", "nan", "-0.0", '""', "''", '"a"', "'''\n'''"],
    *["1979-05-27", "07:32:00", "1979-05-27T07:32:00Z", "[]", '["a", 1]', "{}", "{a = {}}"],
    *["[[], [{}]]", "", "= =", '"', "yes", "None", r'"\u0000"', r'"\ud800"', "[[a]]"],
    *['"postgresql://u:secret@h/d"', '"mysql://u:secret@h/d"', '["postgresql://u:secret@h/d"]'],
    *['"postgresql://u:secret/x@h/d"', '"postgresql://u:secret@x@h/d"'],
]


def slips(line: bytes) -> st.SearchStrategy[list[bytes]]:
    """What an editor may make of a line."""
    key, _, value = line.partition(b"=")
    return (
        st.sampled_from([[], [line, line]])
        | st.integers(0, len(line)).map(lambda length: [line[:length]])
        | st.binary(max_size=20).map(lambda junk: [junk, line])
        | KEYS.map(lambda new: [quoted(new).encode(), b" =", value])
        | st.sampled_from(TOML_VALUES).map(lambda new: [key, f"= {new}\n".encode()])
    )


@st.composite
def changed_files(draw: st.DrawFn) -> bytes:
    """The full file after up to three slips."""
    lines = (URL_LINES + FULL).encode().splitlines(keepends=True)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(lines) - 1))
        lines[at : at + 1] = draw(slips(lines[at]))
    return b"".join(lines)


@given(changed_files() | st.binary())
@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None, max_examples=300)
def test_whatever_becomes_of_a_file_is_a_config_or_a_list_of_mistakes(content: bytes) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "read_bytes", lambda _: content)
        assert_lines("projections.toml", {})


def assert_lines(path: str, environ: dict[str, str]) -> None:
    """Whatever is said is said in lines that can be printed, and that hold no password."""
    try:
        said = config.load(path, environ=environ, import_handlers=False).notes
    except ConfigurationError as error:
        said = tuple(error.mistakes) or ("",)
    assert all(line and line.isprintable() and "secret" not in line for line in said), said

"""`migrate`, `streams`, and what is said when a store is not to be used."""

from __future__ import annotations

from pathlib import Path

import pytest

from eventferry.embedded import EmbeddedServer
from tests.command_line import CommandLine, cloud_event
from tests.conftest import MakeDatabase
from tests.databases import Databases

SECRET = "hunter2secret"


@pytest.fixture
def users(tmp_path: Path, make_database: MakeDatabase) -> CommandLine:
    return CommandLine(tmp_path, make_database("local", "users"), make_database("shared")).ready()


@pytest.fixture
def bare(tmp_path: Path, databases: Databases) -> CommandLine:
    line = CommandLine(tmp_path, databases.make_empty(), databases.make_empty())
    line.write()
    return line


def test_migrating_from_nothing_makes_both_stores_and_then_changes_nothing(
    bare: CommandLine,
) -> None:
    first, second = bare("migrate", "--json").envelope, bare("migrate", "--json").envelope

    assert [(m["store"], m["service"]) for m in first["data"]] == [
        ("local", "users"),
        ("shared", None),
    ]
    assert all(m["applied"] for m in first["data"])
    assert not any(m["applied"] for m in second["data"])
    assert bare("projections", "status", "users-projection").code == 1  # its stream is not there


def test_one_store_is_migrated_alone(bare: CommandLine) -> None:
    assert bare("migrate", "--local").out.startswith("local store ")
    assert bare("streams", "list", "--environment", "shared").code == 2
    assert bare("migrate", "--shared").out.startswith("shared store ")
    assert bare("streams", "list").code == 0


def test_a_database_that_is_both_is_migrated_once_as_the_local_store(bare: CommandLine) -> None:
    bare.write(configuration='service = "users"')

    done = bare("migrate", "--json", EVENTFERRY_SHARED_URL=bare.local_url)

    assert [m["store"] for m in done.envelope["data"]] == ["local"]


def test_a_bare_database_needs_no_configuration(bare: CommandLine) -> None:
    (bare.folder / "projections.toml").unlink()

    local = bare("migrate", "--url", bare.local_url, "--kind", "local", "--service", "mail")
    shared = bare("migrate", "--url", bare.shared_url, "--kind", "shared")
    wrong = bare("migrate", "--url", bare.local_url, "--kind", "local", "--service", "other")

    assert (local.code, shared.code, wrong.code) == (0, 0, 1)
    assert "of service 'mail', not of 'other'" in wrong.err


@pytest.mark.parametrize(
    "options",
    [
        ("--url", f"host=x password={SECRET}", "--kind", "shared"),
        ("--url", "postgresql://x/y"),
        ("--url", "postgresql://x/y", "--kind", "local"),
        ("--url", "postgresql://x/y", "--kind", "shared", "--service", "x"),
        ("--url", "postgresql://x/y", "--kind", "shared", "--local"),
        ("--kind", "shared"),
    ],
)
def test_a_bare_database_must_say_what_it_is(bare: CommandLine, options: tuple[str, ...]) -> None:
    done = bare("migrate", *options)

    assert done.code == 2
    assert SECRET not in done.out + done.err


def test_a_store_that_is_not_migrated_says_what_to_do(bare: CommandLine) -> None:
    for command in (
        ("streams", "list"),
        ("streams", "create", "users-stream"),
        ("events", "read", "users-stream"),
        ("events", "append", "users-stream"),
        ("projections", "status"),
        ("projections", "retry"),
    ):
        done = bare(*command, stdin=cloud_event(1))
        assert done.code == 2, command
        assert "eventferry migrate" in done.err


def test_streams_are_created_once_and_listed(users: CommandLine) -> None:
    created = users("streams", "create", "more-stream", "--description", "more of it", "--json")
    again = users("streams", "create", "more-stream")
    users("events", "append", "more-stream", stdin=cloud_event(1))
    listed = users("streams", "list", "--json").envelope["data"]

    assert created.envelope["data"] == {
        "stream": "more-stream",
        "environment": "local",
        "created": True,
    }
    assert again.out == "stream more-stream is there already in the local store\n"
    assert [(s["environment"], s["name"], s["owner"], s["last_position"]) for s in listed] == [
        ("local", "users-stream", "users", 0),
        ("local", "more-stream", "users", 1),
        ("shared", "users-stream", "users", 0),
    ]
    assert listed[1]["description"] == "more of it"


def test_what_is_piped_has_tabs_between_the_columns(users: CommandLine) -> None:
    head, *rows = users("streams", "list").out.splitlines()

    assert head.split("\t")[:3] == ["stream", "store", "owner"]
    assert [row.split("\t")[:3] for row in rows] == [
        ["users-stream", "local", "users"],
        ["users-stream", "shared", "users"],
    ]


def test_a_name_that_no_stream_can_have_is_wrong_usage(users: CommandLine) -> None:
    done = users("streams", "create", "UsersStream")

    assert done.code == 2
    assert "did you mean 'users-stream'?" in done.err


def test_an_unreachable_host_is_said_without_the_password(users: CommandLine) -> None:
    url = f"postgresql://me:{SECRET}@127.0.0.1:1/users"
    for command in (
        ("projections", "status"),
        ("streams", "list"),
        ("events", "read", "users-stream"),
        ("migrate",),
    ):
        done = users(*command, EVENTFERRY_LOCAL_URL=url)
        assert done.code == 2
        assert "127.0.0.1" in done.err
        assert SECRET not in done.out + done.err
        assert "Traceback" not in done.err


def test_a_wrong_password_is_said_without_it(
    users: CommandLine, own_server: EmbeddedServer
) -> None:
    hba = own_server.folder / "pgdata" / "pg_hba.conf"
    hba.write_text("local all all trust\nhost all all all scram-sha-256\n")
    import psycopg

    with psycopg.connect(own_server.url(), autocommit=True) as conn:
        conn.execute("CREATE ROLE me LOGIN PASSWORD 'right'")
        conn.execute("SELECT pg_reload_conf()")
    wrong = own_server.url(tcp=True).replace("postgres@", f"me:{SECRET}@")

    for command in (("projections", "status", "--json"), ("streams", "list"), ("migrate",)):
        done = users(*command, EVENTFERRY_LOCAL_URL=wrong)
        assert done.code == 2
        assert "password" in done.out + done.err
        assert SECRET not in done.out + done.err


def test_all_mistakes_of_the_configuration_are_said_one_a_line(users: CommandLine) -> None:
    users.write(configuration="servise = 'users'\npoll_interval = 3\n")

    done = users("projections", "list")
    as_json = users("projections", "list", "--json").envelope

    assert done.code == 2
    lines = done.err.splitlines()
    assert len(lines) == len(as_json["errors"]) == 3
    assert all(line.startswith("error: projections.toml") for line in lines)
    assert {e["type"] for e in as_json["errors"]} == {"ConfigurationError"}


def test_notes_on_the_configuration_are_warnings(users: CommandLine) -> None:
    configuration = (users.folder / "projections.toml").read_text()
    users.write(
        configuration=configuration.replace(
            'stream_names = ["users-stream"]', 'stream_name = "users-stream"'
        )
    )

    done = users("projections", "list", "--json")

    assert done.code == 0
    assert (
        "warning: projections.toml: consuming.mails-projection.stream_name: deprecated" in done.err
    )
    assert done.envelope["ok"]


def test_the_configuration_is_named_before_or_after_the_command(
    users: CommandLine, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    path = str(users.folder / "projections.toml")
    there = CommandLine(elsewhere, users.local_url, users.shared_url)

    assert there("projections", "list").code == 2
    assert there("--config", path, "projections", "list").code == 0
    assert there("projections", "list", "--config", path).code == 0


def test_what_nobody_expected_is_shown_without_a_traceback_unless_asked(
    users: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("something odd")

    monkeypatch.setattr("eventferry.config.load", broken)

    quiet = users("projections", "list")
    loud = users("projections", "list", EVENTFERRY_DEBUG="1")

    assert (quiet.code, loud.code) == (1, 1)
    assert quiet.err == (
        "error: unexpected RuntimeError: something odd. Set EVENTFERRY_DEBUG=1 for the traceback\n"
    )
    assert "Traceback" in loud.err

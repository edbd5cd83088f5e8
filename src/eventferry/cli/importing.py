"""`eventferry events append`: CloudEvents, one a line, into a stream.

Batch by batch, each a transaction; a rerun changes nothing, so that a file may be given again.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import typer

from eventferry.cli.call import (
    Call,
    Environment,
    EnvironmentOption,
    StreamArgument,
    command,
    connected,
)
from eventferry.cli.failure import failure
from eventferry.cli.report import Problem, Report, Screen

if TYPE_CHECKING:
    import psycopg

    from eventferry.event import Event

BATCH = 500
"""Lines a transaction,"""
BATCH_BYTES = 8 * 1024 * 1024
"""or fewer, when they have this many bytes."""
MAX_LINE = 3 * 17 * 1024 * 1024
"""Bytes: three times what an event may have, as other writers escape text (`ж` is 2 bytes, and 6
as `\\u0436`). What is longer is no event, and never in memory as a whole."""


def add_to(events: typer.Typer) -> None:
    """Adds the command to the group `events`."""

    @command(
        events,
        "append",
        examples=(
            "eventferry events append users-stream events.jsonl",
            "zcat old.jsonl.gz | eventferry events append users-stream",
        ),
    )
    def append(
        call: Call,
        stream: StreamArgument,
        file: Annotated[
            Path, typer.Argument(help="CloudEvents 1.0, one a line; - is standard input.")
        ] = Path("-"),
        environment: EnvironmentOption = Environment.LOCAL,
        from_line: Annotated[int, typer.Option(min=1, help="Leave out the lines before.")] = 1,
    ) -> Report:
        """Append CloudEvents lines to a stream.

        A rerun changes nothing, as ids are known. A line with `entityversion` is appended only
        if its entity is at the version before.
        """
        with _opened(file) as source, connected(call.config(), environment) as conn:
            importing = Import(stream, source, from_line)
            importing.require_stream(conn)
            with _progress(importing):
                return importing.run(conn)


@dataclass(frozen=True, slots=True)
class Line:
    """A line that holds an event."""

    number: int
    event: Event
    version: int | None
    """What its entity is at afterwards; None: not said."""


class BadLine(Exception):
    """A line that can't be appended."""

    def __init__(self, number: int, reason: Exception) -> None:
        self.number = number
        self.reason = reason
        super().__init__(f"line {number}: {reason}")


class Source:
    """A file of lines, and how much of it has been read."""

    def __init__(self, file: BinaryIO, name: str, size: int | None) -> None:
        self.name = name
        self.size = size
        """In bytes; None: not known."""
        self.done = 0
        """Bytes read."""
        self._file = file

    def __iter__(self) -> Iterator[bytes]:
        """The lines; of one that is too long, only the beginning."""
        while line := self._piece():
            yield line
            while len(line) > MAX_LINE and not line.endswith(b"\n"):
                line = self._piece()

    def _piece(self) -> bytes:
        piece = self._file.readline(MAX_LINE + 1)
        self.done += len(piece)
        return piece


@contextmanager
def _opened(path: Path) -> Iterator[Source]:
    if str(path) == "-":
        yield Source(sys.stdin.buffer, "standard input", None)
        return
    with path.open("rb") as file:
        size = path.stat().st_size if path.is_file() else None
        yield Source(file, str(path), size)


class Import:
    """Lines on their way into a stream, batch by batch, each a transaction."""

    def __init__(self, stream: str, source: Source, from_line: int) -> None:
        self.stream = stream
        self.source = source
        self.next_line = from_line
        """All events in lines before it, from the first one on, are in the stream."""
        self.new = 0
        self.known = 0
        """Lines whose events were there before, by an earlier line too."""

    def require_stream(self, conn: psycopg.Connection[Any]) -> None:
        """Returns if the stream is there, even if there is nothing to append to it.

        Raises:
            InvalidStreamName, UnknownStream
        """
        from eventferry import sql
        from eventferry.connection import translated
        from eventferry.stream import require_stream_name

        require_stream_name(self.stream)
        with translated("the store"):
            conn.execute(sql.on_stream("positions", self.stream), ([],))

    def run(self, conn: psycopg.Connection[Any]) -> Report:
        """Appends all lines."""
        try:
            for batch in batches(self.source, self.next_line, BATCH, BATCH_BYTES):
                self._append(conn, batch)
        except BadLine as bad:
            return self._stopped(failure(bad.reason), f"{self.source.name}: line {bad.number}: ")
        except Exception as error:
            return self._stopped(failure(error), "")
        return Report(data=self._data(), show=self._show)

    def _append(self, conn: psycopg.Connection[Any], batch: list[Line]) -> None:
        from eventferry import sql
        from eventferry.connection import translated

        ids = [line.event.id for line in batch]
        with translated("the store"), conn.transaction():
            found = conn.execute(sql.on_stream("positions", self.stream), (ids,))
            known = {id_ for id_, _ in found.fetchall()}
            for lines in appends(batch):
                self._append_together(conn, lines)
        new = len(set(ids) - known)
        self.new += new
        self.known += len(ids) - new
        self.next_line = batch[-1].number + 1

    def _append_together(self, conn: psycopg.Connection[Any], lines: list[Line]) -> None:
        from eventferry.errors import EventIdConflict, InvalidEvent, VersionConflict
        from eventferry.store import EventStore

        version = lines[0].version
        try:
            EventStore().append(
                self.stream,
                [line.event for line in lines],
                expected_version=None if version is None else version - 1,
                connection=conn,
            )
        except EventIdConflict as error:
            numbers = {line.event.id: line.number for line in lines}
            raise BadLine(numbers.get(_uuid(error), lines[0].number), error) from error
        except VersionConflict as error:
            raise BadLine(lines[0].number, error) from error
        except InvalidEvent as error:
            raise BadLine(_invalid(lines), error) from error

    def _data(self) -> dict[str, object]:
        return {
            "stream": self.stream,
            "appended": self.new,
            "there_already": self.known,
            "next_line": self.next_line,
        }

    def _show(self, screen: Screen) -> None:
        screen.line(
            f"{self.new:,} events appended to {self.stream}; {self.known:,} were there already"
        )

    def _stopped(self, failed: Report, place: str) -> Report:
        """What is in, and how to go on."""
        (first, *more) = failed.problems
        advice = (
            f"All lines before {self.next_line} are in the stream; when it is put right, "
            f"go on with --from-line {self.next_line}"
        )
        message = f"{place}{first.message.rstrip('.')}. {advice}"
        return Report(
            data=self._data(),
            show=self._show,
            problems=(Problem(first.type, message), *more),
            code=failed.code,
        )


def _uuid(error: Any) -> Any:
    return error.event_id


def _invalid(lines: list[Line]) -> int:
    """The number of the first line that no store can keep."""
    from eventferry.errors import InvalidEvent
    from eventferry.store import _row

    for line in lines:
        try:
            _row.rows([line.event])
        except InvalidEvent:
            return line.number
    return lines[0].number


def batches(lines: Iterable[bytes], first: int, size: int, size_bytes: int) -> Iterator[list[Line]]:
    """The lines from the `first` on, in batches; blank ones are left out.

    A batch ends with the line that makes it `size` lines, or `size_bytes`.

    Raises:
        BadLine: what is in this line is not an event; the ones before it have been given out.
    """
    from eventferry.errors import InvalidEvent

    batch: list[Line] = []
    count_bytes = 0
    for number, text in enumerate(lines, 1):
        if number < first or not text.strip():
            continue
        try:
            batch.append(_parsed(number, text))
        except InvalidEvent as error:
            if batch:
                yield batch
            raise BadLine(number, error) from error
        count_bytes += len(text)
        if len(batch) == size or count_bytes >= size_bytes:
            yield batch
            batch, count_bytes = [], 0
    if batch:
        yield batch


def _parsed(number: int, text: bytes) -> Line:
    from eventferry import cloudevent
    from eventferry.errors import EventTooLarge

    if len(text) > MAX_LINE:
        raise EventTooLarge(f"the line has more than {MAX_LINE:,} bytes; no event is so large")
    parsed = cloudevent.parse(text)
    return Line(number, parsed.event, parsed.version)


def appends(batch: Iterable[Line]) -> Iterator[list[Line]]:
    """The batch in parts that one append takes: no versions, or an entity's, one after another."""
    part: list[Line] = []
    ids: set[object] = set()
    for line in batch:
        if part and (line.event.id in ids or not _follows(line, part[-1])):
            yield part
            part, ids = [], set()
        part.append(line)
        ids.add(line.event.id)
    if part:
        yield part


def _follows(line: Line, before: Line) -> bool:
    if line.version is None or before.version is None:
        return line.version is before.version
    same = line.event.entity_id == before.event.entity_id
    return same and line.version == before.version + 1


@contextmanager
def _progress(importing: Import) -> Iterator[None]:
    """A bar on standard error, if that is a terminal, with the rate and the time left."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        ProgressColumn,
        Task,
        TaskProgressColumn,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class Events(ProgressColumn):
        def render(self, task: Task) -> Text:
            done = importing.new + importing.known
            rate = done / task.elapsed if task.elapsed else 0
            return Text(f"{done:,} events, {rate:,.0f}/s")

    class Follow(Progress):
        """Looks at the import whenever it draws itself."""

        def get_renderables(self) -> Iterable[Any]:
            for id_ in self.task_ids:
                self.update(id_, completed=importing.source.done)
            return super().get_renderables()

    columns: list[ProgressColumn] = [TextColumn("{task.description}"), BarColumn()]
    if importing.source.size is not None:
        columns.append(TaskProgressColumn())
    columns.append(Events())
    if importing.source.size is not None:
        columns.append(TimeRemainingColumn())
    with Follow(*columns, console=Console(stderr=True), transient=True) as progress:
        progress.add_task(importing.stream, total=importing.source.size)
        yield

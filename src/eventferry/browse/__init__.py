"""Streams, events, failures and deeds for people who look: page by page, and what belongs together.

Reads, and writes nothing. All work is bounded, however large the streams are: pages go by position,
never by OFFSET; no statement reads a table from end to end, or takes longer than ten seconds. Where
nothing but reading on would find more, the answer says how many events were looked at, and from
where to go on (ADR 0016).

What is shown is what readers may read: the events up to the horizon, all streams of a page
together. An event by its id is shown as soon as it is committed.
"""

from eventferry.browse._audit import ActionPage, AuditPlace, action_page
from eventferry.browse._event import Found, Place, event
from eventferry.browse._failures import (
    AlikeFailures,
    AlikeParked,
    ParkedPage,
    ParkedPlace,
    ParkedSummary,
    alike_failures,
    alike_parked,
    parked_page,
)
from eventferry.browse._handling import Handling, Outcome, handled_by
from eventferry.browse._page import EventSummary, Page, page
from eventferry.browse._relation import Further, Related, related
from eventferry.browse._streams import StreamSummary, names, streams

__all__ = [
    "ActionPage",
    "AlikeFailures",
    "AlikeParked",
    "AuditPlace",
    "EventSummary",
    "Found",
    "Further",
    "Handling",
    "Outcome",
    "Page",
    "ParkedPage",
    "ParkedPlace",
    "ParkedSummary",
    "Place",
    "Related",
    "StreamSummary",
    "action_page",
    "alike_failures",
    "alike_parked",
    "event",
    "handled_by",
    "names",
    "page",
    "parked_page",
    "related",
    "streams",
]

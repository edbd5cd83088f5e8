"""A view that appends, and raises if it is told to."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse

from eventferry import Event
from eventferry.django import append
from tests.djangoapp.models import Note


def note(request: HttpRequest, n: int) -> HttpResponse:
    """Under ATOMIC_REQUESTS, all of it is one transaction."""
    Note.objects.create(n=n)
    append("shop-stream", Event("Noted", {"n": n}))
    if "fail" in request.GET:
        raise ValueError("after the append")
    return HttpResponse(status=201)

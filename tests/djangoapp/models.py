"""What handlers and views of the tests write."""

from __future__ import annotations

from django.db import models


class Note(models.Model):
    """One row an event."""

    n = models.IntegerField()
    details = models.JSONField(null=True)


class Single(models.Model):
    """Each number once; a double is noticed at the commit."""

    n = models.IntegerField()

    class Meta:
        constraints = (
            models.UniqueConstraint(
                fields=["n"], name="single_n", deferrable=models.Deferrable.DEFERRED
            ),
        )

"""The app."""

from __future__ import annotations

from django.apps import AppConfig
from django.core import checks

from eventferry import framework
from eventferry.django.checking import check_configuration
from eventferry.django.hosting import Django


class EventFerryConfig(AppConfig):
    """From here on, what eventferry does in this process it does under Django."""

    name = "eventferry.django"
    label = "eventferry"
    verbose_name = "eventferry"

    def ready(self) -> None:
        framework.use(Django())
        checks.register(check_configuration)

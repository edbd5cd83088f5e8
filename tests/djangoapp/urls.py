"""Where the view is."""

from __future__ import annotations

from django.urls import path

from tests.djangoapp.views import note

urlpatterns = [path("notes/<int:n>", note)]

"""Settings of the shop, with what eventferry is to do in it."""

import os
from urllib.parse import parse_qsl, unquote, urlsplit


def database(url: str) -> dict[str, object]:
    """An entry of DATABASES, from a URL: postgresql://user:password@host:port/name?option=value"""
    parts, query = urlsplit(url), dict(parse_qsl(urlsplit(url).query))
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": unquote(parts.path.lstrip("/")),
        "USER": unquote(parts.username or query.pop("user", "")),
        "PASSWORD": unquote(parts.password or query.pop("password", "")),
        "HOST": unquote(parts.hostname or query.pop("host", "")),
        "PORT": parts.port or query.pop("port", ""),
        "OPTIONS": query,
    }


DATABASES = {"default": database(os.environ.get("EVENTFERRY_LOCAL_URL", "postgresql:///shop"))}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = ["eventferry.django", "shop"]
ROOT_URLCONF = "shop.urls"
WSGI_APPLICATION = "shop.wsgi.application"
ALLOWED_HOSTS = ["*"]
SECRET_KEY = os.environ.get("SECRET_KEY", "only-for-a-laptop")
DEBUG = False
USE_TZ = True

EVENTFERRY = {
    "service": "shop",
    "shared_url": os.environ.get("EVENTFERRY_SHARED_URL", "postgresql:///event-store"),
    "producing": {
        "orders-projection": {"stream_name": "orders-stream"},
    },
    "consuming": {
        "customers-projection": {
            "stream_names": ["users-stream"],
            "environment": "shared",
            "event_types": ["UserRegistered"],
            "handler": "shop.handlers:register_customer",
        },
        "billed-projection": {
            "stream_names": ["invoices-stream"],
            "environment": "shared",
            "event_types": ["InvoiceIssued"],
            "handler": "shop.handlers:mark_billed",
        },
    },
}

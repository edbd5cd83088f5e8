"""Settings of the shop, with what eventferry is to do in it."""

import os

from psycopg.conninfo import conninfo_to_dict

url = conninfo_to_dict(os.environ.get("EVENTFERRY_LOCAL_URL", "postgresql:///shop"))
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": url.pop("dbname"),
        "USER": url.pop("user", ""),
        "PASSWORD": url.pop("password", ""),
        "HOST": url.pop("host", ""),
        "PORT": url.pop("port", ""),
        "OPTIONS": url,
    }
}
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

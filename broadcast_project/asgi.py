"""The web process: streams by the consumer of `connections`, everything else by Django."""

import os

from channels.routing import ProtocolTypeRouter, URLRouter
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.urls import re_path

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "broadcast_project.settings")

database = settings.DATABASES["default"]
if database["ENGINE"].endswith("postgresql") and settings.DATABASE_POOL_SIZE:
    # Here only: requests run in short-lived threads, whose connections could not persist, and a
    # pool does not survive the fork of qcluster.
    pool = {"min_size": 1, "max_size": settings.DATABASE_POOL_SIZE, "timeout": 10}
    database["OPTIONS"]["pool"] = pool
    # Else each connection that a restart of the server broke would fail one more request.
    database["CONN_HEALTH_CHECKS"] = True

django_application = get_asgi_application()

from connections.routing import urlpatterns  # noqa: E402 (the apps must be ready)

application = ProtocolTypeRouter(
    {"http": URLRouter([*urlpatterns, re_path("", django_application)])}  # type: ignore[arg-type]
)

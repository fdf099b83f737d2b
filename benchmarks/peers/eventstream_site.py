"""Stock django-eventstream in one file: settings, URLs, application; run, it makes its database."""

import json
import os

import django
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.management import call_command
from django.http import HttpRequest, HttpResponse
from django.urls import include, path
from django.views.decorators.csrf import csrf_exempt

settings.configure(
    ALLOWED_HOSTS=["*"],
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": os.environ["EVENTSTREAM_DATABASE"],
            "OPTIONS": {"init_command": "PRAGMA journal_mode = WAL", "timeout": 30},
        }
    },
    EVENTSTREAM_STORAGE_CLASS="django_eventstream.storage.DjangoModelStorage",
    INSTALLED_APPS=[
        "django.contrib.auth",
        "django.contrib.contenttypes",
        "django_eventstream",
    ],
    ROOT_URLCONF=__name__,
    SECRET_KEY="for benchmarks only",
    USE_TZ=True,
)
django.setup()

from django_eventstream import send_event  # noqa: E402 (the apps must be ready)


@csrf_exempt
def publish(request: HttpRequest) -> HttpResponse:
    send_event("all", "message", json.loads(request.body))
    return HttpResponse()


urlpatterns = [
    path("events/", include("django_eventstream.urls"), {"channels": ["all"]}),
    path("publish", publish),
]
application = get_asgi_application()

if __name__ == "__main__":
    call_command("migrate", verbosity=0)

"""The project with django-jaiminho's outbox beside its own."""

from broadcast_project.settings import *  # noqa: F403
from broadcast_project.settings import INSTALLED_APPS

INSTALLED_APPS = [*INSTALLED_APPS, "jaiminho"]
JAIMINHO_CONFIG = {"PERSIST_ALL_EVENTS": True, "DEFAULT_CAPTURE_EXCEPTION": None}

"""The project with django-q2 as it comes: its command, its defaults, a connection a task."""

from broadcast_project.settings import *  # noqa: F403
from broadcast_project.settings import INSTALLED_APPS, QCLUSTER_WORKERS

# The first app that has a command gives it.
INSTALLED_APPS = ["django_q", *(app for app in INSTALLED_APPS if app != "django_q")]
# Its `retry` of 60 s would queue again what waits longer than that to be run.
LIMITS = {"timeout": 540, "retry": 600}
Q_CLUSTER = {"name": "broadcast", "orm": "default", "workers": QCLUSTER_WORKERS} | LIMITS

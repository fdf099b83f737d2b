"""The project with some jobs more, for processes under test."""

from broadcast_project.settings import *  # noqa: F403
from broadcast_project.settings import INSTALLED_APPS, Q_CLUSTER

INSTALLED_APPS = [*INSTALLED_APPS, "tests.cluster"]
Q_CLUSTER = Q_CLUSTER | {"timeout": 6, "retry": 12}  # seconds after which a task is ended

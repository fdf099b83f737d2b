"""The project with some jobs more, for processes under test."""

from broadcast_project.settings import *  # noqa: F403
from broadcast_project.settings import INSTALLED_APPS

INSTALLED_APPS = [*INSTALLED_APPS, "tests.cluster"]

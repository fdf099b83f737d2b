#!/usr/bin/env python
"""Run a management command of the project."""

import gc
import os
import sys

from django.core.management import execute_from_command_line

from jobs.acting import acting_as, at_the_terminal

if __name__ == "__main__":
    gc.disable()  # until all is imported: looking for garbage in it is a fifth of a start
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "broadcast_project.settings")
    with acting_as(at_the_terminal(" ".join(sys.argv[1:2]))):
        execute_from_command_line(sys.argv)

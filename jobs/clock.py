"""The time that decides what is due: the database's, so that nodes whose clocks differ agree."""

from datetime import datetime

from django.db import connection
from django.utils import timezone


def now() -> datetime:
    if connection.vendor == "sqlite":  # it runs in this process, by its clock
        return timezone.now()
    with connection.cursor() as cursor:
        cursor.execute("SELECT statement_timestamp()")
        moment: datetime = cursor.fetchone()[0]
    return moment

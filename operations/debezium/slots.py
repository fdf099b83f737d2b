"""The replication slot of a PostgreSQL connector, asked of its database where that may be asked.

Connect says RUNNING for as long as Debezium tries to reach its database, be it for days; only the
slot says whether anybody reads.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
from django.conf import settings
from django.db import DatabaseError, connection
from django.utils.translation import gettext as _

from operations.debezium.client import Config
from operations.debezium.models import Connector
from operations.debezium.records import database_of

POSTGRES = "io.debezium.connector.postgresql."
SETTLED = 15.0  # seconds: what has read for less may be one of Debezium's attempts, each 10 s
TIMEOUT = 3  # seconds for a database that is not ours to be connected to, and to answer

QUERY = """
SELECT slot.active,
       pg_wal_lsn_diff(here.lsn, slot.restart_lsn)::bigint,
       pg_wal_lsn_diff(here.lsn, slot.confirmed_flush_lsn)::bigint,
       slot.wal_status,
       extract(epoch FROM clock_timestamp() - reader.backend_start)::float,
       EXISTS (SELECT FROM pg_publication WHERE pubname = %(publication)s)
FROM pg_replication_slots slot
LEFT JOIN pg_stat_activity reader ON reader.pid = slot.active_pid
CROSS JOIN (SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn()
                        ELSE pg_current_wal_lsn() END AS lsn) here
WHERE slot.slot_name = %(slot)s
"""


@dataclass(frozen=True)
class Slot:
    name: str
    note: str = ""
    """Why nothing is known of it; empty: it was asked for."""
    exists: bool = False
    active: bool = False
    settled: bool = True
    """Whether its reader is there for long enough to be believed."""
    retained: int | None = None  # bytes of WAL
    lag: int | None = None
    lost: bool = False
    publication: bool = True


def slot_of(config: Config) -> Slot | None:
    """None for what has none: other databases than PostgreSQL, and sinks."""
    if not config.get("connector.class", "").startswith(POSTGRES):
        return None
    name = config.get("slot.name", "debezium")
    values = {"slot": name, "publication": config.get("publication.name", "dbz_publication")}
    try:
        with _cursor(config) as cursor:
            if cursor is None:
                return Slot(name, _("Not asked: set DEBEZIUM_ASK_DATABASES to let it be asked."))
            cursor.execute(QUERY, values)
            row = cursor.fetchone()
    except (DatabaseError, psycopg.Error) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[-1]
        return Slot(name, _("Its database could not be asked: %s") % reason[:200])
    if row is None:
        return Slot(name, exists=False)
    active, retained, lag, status, age, publication = row
    return Slot(
        name,
        exists=True,
        active=active,
        settled=age is None or age >= SETTLED,  # none: this user may not see it
        retained=retained,
        lag=lag,
        lost=status == "lost",
        publication=publication or config.get("plugin.name") != "pgoutput",
    )


def slot_left_by(connector: Connector) -> Slot | None:
    """Of one whose configuration Connect does not have: by the name that its slot had.

    None where it cannot be asked for: only the configuration has the login of other databases.
    """
    if not connector.slot or connector.database not in ours():
        return None
    return slot_of(own() | {"connector.class": POSTGRES, "slot.name": connector.slot})


@contextmanager
def _cursor(config: Config) -> Iterator[Any]:
    if is_ours(config):
        with connection.cursor() as cursor:
            yield cursor
    elif settings.DEBEZIUM_ASK_DATABASES:
        with (
            psycopg.connect(
                host=config.get("database.hostname"),
                port=config.get("database.port", "5432"),
                dbname=config.get("database.dbname"),
                user=config.get("database.user"),
                password=config.get("database.password"),
                connect_timeout=TIMEOUT,
                options=f"-c statement_timeout={TIMEOUT}s",
                autocommit=True,
            ) as other,
            other.cursor() as cursor,
        ):
            yield cursor
    else:
        yield None


def is_ours(config: Config) -> bool:
    named = {"database.port": "5432"} | config
    return connection.vendor == "postgresql" and own().items() <= named.items()


def own() -> Config:
    """What names this project's database in a configuration."""
    here = connection.settings_dict
    return {
        "database.hostname": str(here["HOST"]),
        "database.port": str(here["PORT"] or 5432),
        "database.dbname": str(here["NAME"]),
    }


def ours() -> list[str]:
    """This project's database as rows of connectors name it, with or without its port."""
    portless = {key: value for key, value in own().items() if key != "database.port"}
    return [database_of(config) for config in (own(), portless) if is_ours(config)]

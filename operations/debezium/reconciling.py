"""What is declared is made, and kept as it is declared; what is not declared is left alone."""

from django.utils.translation import gettext as _

from jobs import clock
from jobs.leases import fenced
from operations.debezium.client import Config, Connect, ConnectError, TooLate, Unreachable
from operations.debezium.declared import Declared, digest, without_secrets
from operations.debezium.models import Connector, State, tell
from operations.debezium.records import Told, config_of


def reconcile(connect: Connect, found: dict[str, Told], wanted: Declared) -> dict[str, str]:
    """Make what is declared and missing, change what differs; by name, what could not be.

    What is not declared is left alone. `found` is read anew where something was changed.
    """
    refused = dict(wanted.errors)
    known = {row.name: row for row in Connector.objects.filter(name__in=wanted.configs)}
    changed = False
    for name, config in wanted.configs.items():
        row = known.get(name)
        live = config_of(found.get(name, {}))
        if live and (same(live, config) or (row and row.applied == applied(config, live))):
            continue
        try:
            made = connect.configure(name, config)
        except ConnectError as error:
            if isinstance(error, Unreachable) and not isinstance(error, TooLate):
                raise  # too late is of one alone: its database is tried before it is taken
            refused[name] = without_secrets(_("Connect does not take its file: %s") % error)
            continue
        changed = True
        what = (
            _("Made from its file")
            if not live
            else _("Changed from its file: %s") % (", ".join(sorted(different(live, config))))
        )
        note_applied(name, applied(config, made), what)
    if changed:
        found.update(connect.connectors())
    return refused


def same(live: Config, config: Config) -> bool:
    return not different(live, config)


def different(live: Config, config: Config) -> set[str]:
    """The names alone: the values may be secrets."""
    names = (live.keys() | config.keys()) - {"name"}
    return {name for name in names if live.get(name) != config.get(name)}


def applied(config: Config, live: Config) -> str:
    """Connect may answer other than it was told (masked passwords): that is no reason to tell it
    again, and so restart the connector at each check."""
    return f"{digest(config)}:{digest(live)}"


def note_applied(name: str, digests: str, what: str) -> None:
    with fenced():
        row, _made = Connector.objects.get_or_create(
            name=name, defaults={"state": State.UNASSIGNED, "since": clock.now()}
        )
        # What was wrong was wrong with the configuration before.
        Connector.objects.filter(pk=row.pk).update(
            applied=digests, declared=True, restarts=0, next_restart_at=None
        )
        tell(row, what)

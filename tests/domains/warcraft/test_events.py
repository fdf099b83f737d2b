"""What this app tells, on its way to who listens."""

import re

import pytest
from django.core.management import call_command
from django.test import Client

from deliveries.models import Delivery, Endpoint
from deliveries.tasks import Collector
from domains.warcraft.events import EVENTS
from jobs.models import Job
from outbox.logs import DatabaseLog
from outbox.relay import Relay
from tests.domains.warcraft.battlenet import LATER, World
from tests.factories import operator
from tests.test_docs import DOCS

GUILDS = "/api/warcraft/guilds"


def relay_and_collect() -> None:
    relay, collector = Relay(DatabaseLog()), Collector()
    relay.step()
    relay.resign()
    collector.step()
    collector.stop()


def test_every_event_is_declared_and_described() -> None:
    described = re.findall(r"^\| `(warcraft\.[a-z.]+)`", (DOCS / "events.md").read_text(), re.M)
    assert sorted(described) == sorted(EVENTS)


@pytest.mark.django_db(transaction=True)
def test_from_the_api_by_the_job_to_a_webhook(client: Client, world: World) -> None:
    """Also that the job's own door works: its lease, its run, the outbox, the relay."""
    permissions = ("add_guild", "view_guild", "change_guild")
    client.force_login(operator(*(f"warcraft.{name}" for name in permissions)))
    Endpoint.objects.create(name="Hook", url="https://a.example", patterns=["warcraft.guild.*"])
    Job.objects.get_or_create(name="GUILD_SYNC")
    path = world.guild()
    knights = {"name": "Knights of Dawn", "realm": "Area 52", "region": "us"}
    made = client.post(GUILDS, knights, content_type="application/json").json()
    call_command("run_job", "GUILD_SYNC")
    world.roster(path, lambda members: members.pop(0), LATER)
    assert client.post(f"{GUILDS}/{made['id']}/refresh").status_code == 202
    call_command("run_job", "GUILD_SYNC")
    relay_and_collect()
    collected = list(Delivery.objects.order_by("id").values_list("type", "key"))
    key = f"guild-{made['id']}"
    assert collected == [
        ("warcraft.guild.synced", key),
        ("warcraft.guild.synced", key),
        ("warcraft.guild.member.left", key),
    ]

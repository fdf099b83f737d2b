"""What all pages of the console have in common."""

import re
import uuid

import pytest
from django.contrib.auth.models import User
from django.db import models, transaction
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from broadcasts import rules
from broadcasts.models import (
    ApprovalStep,
    Decision,
    Digest,
    Outcome,
    Preference,
    Receipt,
    Rule,
    RuleMatch,
    Template,
)
from broadcasts.series import start
from broadcasts.services import compose, send
from connections.models import Connection, Node
from deliveries.models import Endpoint, Retry
from deliveries.services import send_test
from domains.blog import services as blog
from domains.blog.models import Category, Comment, Media, Tag
from domains.links import services as links
from domains.pantry import models as pantry
from domains.pantry.models import Company, Item, Variant
from domains.pantry.services import stock_up
from domains.pantry.shopping import current_list, put_on
from domains.twitch.ingest import ingest
from domains.twitch.models import ChannelViewer, Clip, Command, Message, Viewer
from domains.twitch.services import start as begin
from domains.warcraft.models import Character, Guild, GuildMember, RosterChange
from jobs.models import Job, Run, RunStatus
from operations.keys.services import make
from operations.models import Alert, Connector, Kind
from outbox.models import DeadLetter, Event
from outbox.services import emit

PAIR = re.compile(r"\((&#x27;\w+&#x27;|\d+), &#x27;")  # as Python writes a tuple


def one_of_each(user: User) -> list[models.Model]:
    with transaction.atomic():
        emit("link.expired", "link-1", {})
    broadcast = send(compose(None, title="Hello"))
    job, _ = Job.objects.get_or_create(name="RUN_RETENTION")
    now = timezone.now()
    endpoint = Endpoint.objects.create(name="Shop", url="https://shop.example", patterns=["*"])
    connector = Connector.objects.create(name="orders", state="RUNNING", since=now)
    return [
        broadcast,
        Receipt.objects.create(broadcast=broadcast, user=user),
        ApprovalStep.objects.create(
            broadcast=broadcast, version=1, decision=Decision.APPROVED, person_name="Ann"
        ),
        start(None, title="Daily", cron="0 9 * * *"),
        (rule := rules.create(Rule(name="Links", pattern="link.*", title="{{ code }}"), None)),
        RuleMatch.objects.create(
            rule=rule, event_id=uuid.uuid4(), type="link.expired", outcome=Outcome.CONDITION
        ),
        Template.objects.create(name="Rest", title="{{ product }} rests"),
        Preference.objects.create(user=user, email="DAILY"),
        Digest.objects.create(user=user, next_attempt_at=now),
        Connection.objects.create(user=user, node="web-1"),
        Node.objects.create(name="web-1", started_at=now, last_heartbeat=now),
        Event.objects.latest("id"),
        DeadLetter.objects.create(
            source=DeadLetter.RELAY,
            event_id=uuid.uuid4(),
            type="link.expired",
            topic="link",
            key="link-1",
            payload={},
            error="too big",
        ),
        Run.objects.create(job=job, slot=now, status=RunStatus.SUCCEEDED),
        Alert.objects.create(kind=Kind.OVERDUE, subject=job.name),
        make(user, "Shop", ["read"])[0],
        connector,
        connector.changes.create(what="RUNNING → FAILED"),
        endpoint,
        send_test(endpoint),
        Retry.objects.create(what="Shop", by="operator"),
        *one_of_each_of_the_blog(),
        links.create("https://example.org", title="A link"),
        *one_of_each_of_warcraft(),
        *one_of_each_of_the_pantry(),
        *one_of_each_of_twitch(),
    ]


def one_of_each_of_the_blog() -> list[models.Model]:
    post = blog.compose(None, title="First light", published_at=timezone.now())
    picture = Media(original_name="sun.png", mime="image/png", size=1, width=1, height=1)
    picture.file.name = "blog/sun.png"
    picture.save()
    return [
        post,
        Comment.objects.create(post=post, author_name="Ann", content="Well said."),
        picture,
        Category.objects.create(name="Sea", slug="sea"),
        Tag.objects.create(name="Blue", slug="blue"),
    ]


def one_of_each_of_warcraft() -> list[models.Model]:
    guild = Guild.objects.create(name="Knights", realm="Area 52", region="us")
    member = GuildMember.objects.create(guild=guild, battlenet_id=1, name="Nela", rank=0)
    return [
        Character.objects.create(name="Nela", realm="Area 52", region="us"),
        guild,
        member,
        RosterChange.objects.create(guild=guild, member=member, kind="JOINED", at=timezone.now()),
    ]


def one_of_each_of_the_pantry() -> list[models.Model]:
    company = Company.objects.create(name="Meadow")
    item = Item.objects.create(name="Milk", company=company)
    variant = Variant.objects.create(item=item, name="1 l", barcode="4000000000006")
    put_on(current_list(), variant)
    return [
        item,
        variant,
        stock_up(variant, 1)[0],
        current_list(),
        company,
        pantry.Category.objects.create(name="Drinks"),
        pantry.Location.objects.create(name="Fridge"),
        pantry.ItemType.objects.create(name="Drink"),
        pantry.Warehouse.objects.create(name="Corner shop"),
        pantry.Size.objects.create(value=1, unit="l"),
    ]


def one_of_each_of_twitch() -> list[models.Model]:
    stream, _is_new = begin("toast", "1", title="Rye")
    said = Message(twitch_id="m1", user_id="1", username="crumb", text="Hi", sent_at=timezone.now())
    ingest("toast", [said])
    return [
        stream,
        Message.objects.get(),
        Viewer.objects.get(),
        ChannelViewer.objects.get(),
        Command.objects.create(name="recipe", response="Rye."),
        Clip.objects.create(twitch_clip_id="c1", channel="toast", created_at=timezone.now()),
    ]


@pytest.mark.django_db
def test_the_page_of_one_says_its_state_in_words(client: Client) -> None:
    user = User.objects.create_superuser("operator", password="x")
    client.force_login(user)
    for thing in one_of_each(user):
        options = thing._meta
        page = reverse(f"admin:{options.app_label}_{options.model_name}_change", args=[thing.pk])
        answer = client.get(page)
        assert answer.status_code == 200, page
        assert not PAIR.findall(answer.content.decode()), page


def test_an_empty_list_says_why_it_is_empty(client: Client, db: None) -> None:
    client.force_login(User.objects.create_superuser("boss"))
    assert "appears here by itself" in client.get("/admin/operations/alert/").text
    assert "Add the first one" in client.get("/admin/links/link/").text
    searched = client.get("/admin/links/link/?q=nothing").text
    assert "Nothing matches" in searched
    assert "Reset filters" in searched

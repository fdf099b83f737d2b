"""Each thing that people do leaves one entry: who, when, by which door, from where."""

import ast
import base64
import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import transaction
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from django_q.models import Failure, OrmQ, Schedule

from broadcasts import approvals, reminders, rules, series, services
from broadcasts.models import Approval, Broadcast, Product, Rule, Series, Status, Template
from broadcasts.services import compose, send
from connections.models import Connection
from connections.services import disconnect_by_operator
from deliveries import services as deliveries
from deliveries.models import Delivery, Endpoint
from domains.blog import services as blog
from domains.blog.comments import moderate
from domains.blog.models import Comment, CommentQuerySet, CommentStatus, Post
from domains.links import services as links
from domains.pantry import services as pantry
from domains.pantry import shopping
from domains.pantry.models import (
    Company,
    Entry,
    Item,
    Location,
    Piece,
    ShoppingList,
    Variant,
)
from domains.twitch import services as twitch
from domains.twitch.models import Command
from jobs import execution
from jobs.acting import ADMIN, Actor, acting_as
from jobs.models import Job
from jobs.schedules import synchronise
from operations.audit.models import AuditEntry
from operations.keys import services as keys
from operations.keys.models import ApiKey
from outbox import deadletters
from outbox.consumers import groups
from outbox.models import DeadLetter
from tests.factories import DeadLetterFactory, UserFactory, operator, parked_event
from tests.test_docs import calls, rows, sources

pytestmark = pytest.mark.django_db

EVE = Actor(ADMIN, 7, "eve", address="192.0.2.1")
TYPE = re.compile(r"[a-z]+(\.[a-z_]+)+")


def draft(**fields: Any) -> Broadcast:
    return compose(None, **{"title": "Hello"} | fields)


def sent() -> Broadcast:
    return send(sendable())


def sendable() -> Broadcast:
    UserFactory.create()  # to whom
    return draft()


def daily() -> Series:
    return series.start(None, title="Daily", cron="0 9 * * *")


def rule() -> Rule:
    made = rules.create(Rule(name="Links", pattern="link.*", title="{{ code }}"), None)
    return Rule.objects.get(pk=made.pk)


def endpoint(**fields: Any) -> Endpoint:
    given = {"name": "Shop", "url": "https://shop.example", "patterns": ["*"]}
    return Endpoint.objects.create(**given | fields)


def key() -> ApiKey:
    return keys.make(UserFactory.create(), "Shop", ["read"])[0]


def asked() -> Broadcast:
    return approvals.request(draft(), UserFactory.create())


def failed() -> Broadcast:
    broadcast = send(draft(), tomorrow())
    Broadcast.objects.filter(pk=broadcast.pk).update(status=Status.FAILED, activated_at=None)
    broadcast.refresh_from_db()
    return broadcast


def job() -> str:
    Job.objects.get_or_create(name="RUN_RETENTION")
    return "RUN_RETENTION"


def paused_job() -> str:
    execution.pause(job())
    return job()


def relayed() -> DeadLetter:
    event = parked_event("link.expired", "link-1")
    return DeadLetterFactory.create(event_id=event.event_id, source=DeadLetter.RELAY)


def consumed() -> DeadLetter:
    return DeadLetterFactory.create(source=next(iter(sorted(groups))))


def paused_series() -> Series:
    return series.pause(daily())


def skipped() -> Series:
    made = daily()
    return series.skip(made, series.upcoming(made)[0])


def stopped() -> Rule:
    return rules.stop(rule())


def delivered() -> Delivery:
    delivery = deliveries.send_test(endpoint())
    Delivery.objects.filter(pk=delivery.pk).update(
        status="SUCCEEDED", next_attempt_at=None, completed_at=timezone.now()
    )
    return delivery


def paused_endpoint() -> Endpoint:
    made = endpoint()
    deliveries.pause(made)
    return made


def disabled_key() -> ApiKey:
    made = key()
    keys.disable(made, "lost")
    return made


def person() -> Any:
    return UserFactory.create()


def piece() -> Piece:
    item = Item.objects.create(name="Milk")
    variant = Variant.objects.create(item=item, name="1 l")
    return pantry.stock_up(variant)[0]


def post() -> Post:
    return blog.compose(None, title="Light")


def published() -> Post:
    made = post()
    blog.publish(made)
    return made


def said() -> Comment:
    return Comment.objects.create(post=post(), author_name="Ann", content="Well said.")


def of(comment: Comment) -> CommentQuerySet:
    return Comment.objects.filter(pk=comment.pk)


def connection() -> Connection:
    return Connection.objects.create(user=UserFactory.create(), node="web-1")


def used_up() -> Piece:
    found = piece()
    pantry.consume(found)
    return found


def placed() -> Location:
    piece()
    return Location.objects.create(name="Cellar")


def variant() -> Variant:
    return piece().variant


def groceries() -> ShoppingList:
    """Empty, with something to put on it."""
    piece()
    Variant.objects.update(min_sku=9)
    return shopping.current_list()


def listed() -> Entry:
    return shopping.put_on(groceries(), Variant.objects.get(), 2)


def bought() -> ShoppingList:
    entry = listed()
    shopping.buy(entry)
    return entry.list


def command() -> Command:
    return Command.objects.create(name="toast", response="x")


def changed_series() -> Series:
    """It waits for a second person."""
    made = paused_series()
    Series.objects.filter(pk=made.pk).update(approval=Approval.REQUESTED)
    made.refresh_from_db()
    return made


def changed_rule() -> Rule:
    made = rule()
    Rule.objects.filter(pk=made.pk).update(approval=Approval.REQUESTED, since=None)
    made.refresh_from_db()
    return made


def tomorrow() -> Any:
    return timezone.now() + timedelta(days=1)


VERBS: list[tuple[str, Callable[[], Any], Callable[[Any], object]]] = [
    ("broadcast.created", lambda: None, lambda _: draft()),
    ("broadcast.created", draft, lambda b: services.duplicate(b, None)),
    ("broadcast.edited", draft, lambda b: services.edit(b, title="Bye")),
    ("broadcast.sent", sendable, send),
    ("broadcast.scheduled", draft, lambda b: send(b, tomorrow())),
    ("broadcast.cancelled", sent, lambda b: services.cancel(b, "Wrong people")),
    ("broadcast.retried", failed, services.retry),
    ("broadcast.reminded", sent, lambda b: reminders.remind(b, None)),
    ("broadcast.deleted", draft, lambda b: b.delete()),
    ("broadcast.approval.requested", draft, lambda b: approvals.request(b, person())),
    ("broadcast.approval.approved", asked, lambda b: approvals.approve(b, person())),
    ("broadcast.approval.rejected", asked, lambda b: approvals.reject(b, person(), "No.")),
    ("broadcast.approval.withdrawn", asked, lambda b: approvals.withdraw(b, person())),
    ("approval.commented", draft, lambda b: approvals.comment(b, person(), "Shorter?")),
    ("series.started", lambda: None, lambda _: daily()),
    ("series.changed", daily, lambda s: series.change(s, title="Weekly")),
    ("series.paused", daily, series.pause),
    ("series.resumed", paused_series, series.resume),
    ("series.skipped", daily, lambda s: series.skip(s, series.upcoming(s)[0])),
    ("series.restored", skipped, lambda s: series.put_back(s, series.left_out(s)[0])),
    ("series.ended", daily, series.end),
    ("series.approval.approved", changed_series, lambda s: series.approve(s, person())),
    ("series.approval.rejected", changed_series, lambda s: series.reject(s, person(), "No.")),
    ("template.created", lambda: None, lambda _: Template.objects.create(name="Rest", title="R")),
    ("product.created", lambda: None, lambda _: Product.objects.create(slug="shop", name="Shop")),
    ("rule.created", lambda: None, lambda _: rule()),
    ("rule.changed", rule, lambda r: rules.change(r, title="It is over")),
    ("rule.stopped", rule, rules.stop),
    ("rule.started", stopped, rules.start),
    ("rule.approval.approved", changed_rule, lambda r: rules.approve(r, person())),
    ("rule.deleted", rule, lambda r: r.delete()),
    ("deadletter.redriven", relayed, deadletters.redrive),
    ("deadletter.purged", relayed, deadletters.purge),
    ("deadletter.purged", consumed, deadletters.purge),
    ("job.run", job, execution.run_now),
    ("job.paused", job, execution.pause),
    ("job.resumed", paused_job, execution.resume),
    ("job.released", job, execution.release),
    (
        "schedule.created",
        lambda: None,
        lambda _: Schedule.objects.create(name="Root", func="math.sqrt", args="4"),
    ),
    ("connection.disconnected", connection, disconnect_by_operator),
    ("endpoint.created", lambda: None, lambda _: endpoint()),
    ("endpoint.changed", endpoint, lambda e: deliveries.edit(e, name="Stall")),
    ("endpoint.secret_rotated", endpoint, deliveries.rotate_secret),
    ("endpoint.secret_shown", endpoint, deliveries.show_secrets),
    ("endpoint.paused", endpoint, deliveries.pause),
    ("endpoint.enabled", paused_endpoint, deliveries.enable),
    ("endpoint.disabled", endpoint, lambda e: deliveries.disable(e, "by eve")),
    ("endpoint.tested", endpoint, deliveries.send_test),
    ("endpoint.deleted", endpoint, deliveries.delete_endpoint),
    (
        "delivery.retried",
        delivered,
        lambda d: deliveries.retry(Delivery.objects.filter(pk=d.pk), "one", "eve"),
    ),
    ("key.changed", key, lambda k: keys.edit(k, name="Stall")),
    ("key.rotated", key, lambda k: keys.rotate(k, timedelta(hours=1))),
    ("key.disabled", key, lambda k: keys.disable(k, "lost")),
    ("key.enabled", disabled_key, keys.enable),
    ("key.deleted", key, keys.delete),
    ("blog.post.created", lambda: None, lambda _: post()),
    (
        "blog.post.changed",
        lambda: blog.compose(None, title="Light"),
        lambda p: blog.edit(p, title="L"),
    ),
    ("blog.post.published", lambda: blog.compose(None, title="Light"), blog.publish),
    ("blog.post.withdrawn", published, blog.withdraw),
    ("blog.comment.deleted", said, lambda c: c.delete()),
    ("blog.comment.moderated", said, lambda c: moderate(of(c), CommentStatus.APPROVED)),
    ("link.created", lambda: None, lambda _: links.create("https://example.org")),
    ("link.changed", lambda: links.create("https://example.org"), links.deactivate),
    ("link.deleted", lambda: links.create("https://example.org"), links.delete),
    ("foodfolio.piece.changed", piece, pantry.consume),
    ("foodfolio.piece.changed", placed, lambda to: pantry.move(Piece.objects.all(), to)),
    ("foodfolio.piece.changed", variant, pantry.take),
    ("foodfolio.piece.changed", variant, pantry.open_one),
    ("foodfolio.piece.put_back", used_up, pantry.put_back),
    (
        "twitchbot.stream.changed",
        lambda: twitch.start("chess")[0],
        lambda s: twitch.update(s, title="Endgames"),
    ),
    ("foodfolio.variant.stocked_up", variant, lambda v: pantry.stock_up(v, 3)),
    ("foodfolio.list.filled", groceries, shopping.fill),
    ("foodfolio.list.bought", listed, shopping.buy),
    ("foodfolio.list.bought", listed, lambda e: shopping.buy_all(e.list)),
    ("foodfolio.list.cleared", bought, shopping.clear_bought),
    ("foodfolio.entry.created", groceries, lambda to: shopping.put_on(to, Variant.objects.get())),
    ("foodfolio.entry.changed", listed, lambda e: shopping.put_on(e.list, e.variant, 3)),
    ("foodfolio.entry.deleted", listed, lambda e: e.delete()),
    ("foodfolio.company.created", lambda: None, lambda _: Company.objects.create(name="Mill")),
    ("twitchbot.stream.ended", lambda: twitch.start("chess")[0], twitch.end),
    (
        "twitchbot.command.changed",
        command,
        lambda c: twitch.switch(Command.objects.all(), is_active=False),
    ),
    ("user.changed", person, lambda u: rename(u)),
]


def rename(user: User) -> None:
    user.first_name = "Eve"
    user.save()


@pytest.mark.parametrize(
    ("action", "prepare", "do"), VERBS, ids=[f"{i}-{v[0]}" for i, v in enumerate(VERBS)]
)
def test_what_a_person_does_leaves_one_entry(
    action: str, prepare: Callable[[], Any], do: Callable[[Any], object]
) -> None:
    thing = prepare()
    assert not AuditEntry.objects.exists()
    with acting_as(EVE):
        do(thing)
    found = AuditEntry.objects.exclude(action="user.created")  # whom a test makes for it
    assert [entry.action for entry in found] == [action]
    entry = found[0]
    assert (entry.user_id, entry.person, entry.door) == (7, "eve", ADMIN)
    assert (entry.address, entry.subject != "") == ("192.0.2.1", True)


def test_who_may_not_resume_a_series_alone_has_asked_for_a_second_person(settings: Any) -> None:
    waiting = paused_series()
    settings.BROADCAST_APPROVAL_FOR = ["ALL"]
    with acting_as(EVE), pytest.raises(services.ApprovalNeeded):
        series.resume(waiting)
    assert [entry.action for entry in AuditEntry.objects.all()] == ["series.approval.requested"]


def test_schedules_of_our_own_jobs_are_nobodys_doing() -> None:
    Schedule.objects.all().delete()
    with acting_as(EVE):
        synchronise()
    assert Schedule.objects.exists()
    assert not AuditEntry.objects.exists()


def test_redriving_is_one_entry_whatever_its_consumer_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    letter = consumed()

    def handle(envelope: Any) -> None:
        draft()

    monkeypatch.setattr(deadletters, "handler_of", lambda source: handle)
    with acting_as(EVE):
        deadletters.redrive(letter)
    assert [entry.action for entry in AuditEntry.objects.all()] == ["deadletter.redriven"]


@pytest.mark.parametrize("make", [relayed, consumed])
def test_of_two_who_purge_a_letter_the_first_has_done_it(make: Callable[[], DeadLetter]) -> None:
    letters = [made := make(), DeadLetter.objects.get(pk=made.pk)]
    with acting_as(EVE):
        assert deadletters.purge_all(letters) == 1
    assert [entry.action for entry in AuditEntry.objects.all()] == ["deadletter.purged"]


def test_of_two_who_redrive_a_letter_the_first_has_done_it(monkeypatch: pytest.MonkeyPatch) -> None:
    made = consumed()
    monkeypatch.setattr(deadletters, "handler_of", lambda source: lambda envelope: None)
    with acting_as(EVE):
        for letter in [made, DeadLetter.objects.get(pk=made.pk)]:
            deadletters.redrive(letter)
    assert [entry.action for entry in AuditEntry.objects.all()] == ["deadletter.redriven"]


def test_a_key_that_is_made_is_one_entry_without_its_secret() -> None:
    owner = UserFactory.create()
    with acting_as(EVE):
        made, written = keys.make(owner, "Shop", ["read"])
        keys.rotate(made, timedelta(hours=1))
    assert [entry.action for entry in AuditEntry.objects.order_by("pk")] == [
        "key.created",
        "key.rotated",
    ]
    everything = str(list(AuditEntry.objects.values()))
    assert written.partition(".")[2] not in everything
    assert not any(secret in everything for secret in (made.digest,))


def test_the_address_of_an_endpoint_and_its_secrets_stay_out() -> None:
    made = endpoint(url="https://discord.example/api/webhooks/1/token-1")
    with acting_as(EVE):
        deliveries.edit(made, url="https://discord.example/api/webhooks/1/token-2")
        deliveries.rotate_secret(made)
    everything = str(list(AuditEntry.objects.values()))
    assert "token-" not in everything
    assert "whsec_" not in everything


def test_an_edit_says_what_changed_and_nothing_else() -> None:
    broadcast = draft(content="a" * 500)
    with acting_as(EVE):
        services.edit(broadcast, title="Bye", content="b")
    [entry] = AuditEntry.objects.all()
    changes = {"title": ["Hello", "Bye"], "content": ["a" * 199 + "…", "b"]}
    assert entry.detail == {"changes": changes}


def test_what_is_done_to_many_pieces_or_entries_is_one_entry_with_their_number() -> None:
    to = groceries()
    with acting_as(EVE):
        pantry.stock_up(Variant.objects.get(), 3)
        shopping.fill(to)
        shopping.buy(to.entries.get())
        shopping.clear_bought(to)
        assert shopping.fill(to) == shopping.clear_bought(to) == 0
    assert list(AuditEntry.objects.order_by("pk").values_list("subject", "detail")) == [
        ("Milk, 1 l", {"pieces": 3}),
        ("Groceries", {"entries": 1}),
        ("Groceries", {"variant": "Milk, 1 l", "pieces": 5}),
        ("Groceries", {"entries": 1}),
    ]


def test_who_saves_it_as_it_is_has_changed_nothing() -> None:
    broadcast = draft()
    with acting_as(EVE):
        services.edit(broadcast)
    assert not AuditEntry.objects.exists()


def test_a_bot_that_says_its_title_again_is_one_entry() -> None:
    stream, _is_new = twitch.start("chess", title="Openings")
    with acting_as(EVE):
        for _ in range(3):
            twitch.update(stream, title="Endgames", game_name="")
    [entry] = AuditEntry.objects.all()
    assert entry.detail == {"changes": {"title": ["Openings", "Endgames"]}}


def test_what_is_not_allowed_leaves_no_entry() -> None:
    broadcast = services.cancel(sendable())
    with acting_as(EVE), pytest.raises(services.InvalidTransition):
        services.cancel(broadcast)
    with acting_as(EVE), pytest.raises(services.InvalidTransition):
        send(broadcast)
    assert not AuditEntry.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_what_is_rolled_back_leaves_no_entry() -> None:
    broadcast = draft()
    with acting_as(EVE), transaction.atomic():
        services.cancel(broadcast)
        transaction.set_rollback(True)
    assert not AuditEntry.objects.exists()
    with acting_as(EVE):
        services.cancel(Broadcast.objects.get(pk=broadcast.pk))
    assert AuditEntry.objects.count() == 1  # which the flush after this test has to pass


def by_templates(client: Client) -> Any:
    return client.post("/api/admin/templates", {"name": "Rest", "title": "R"}, "application/json")


def by_password(client: Client) -> Any:
    new = {"new_password1": "a-new-secret-42", "new_password2": "a-new-secret-42"}
    return client.post("/admin/password_change/", {"old_password": "secret"} | new)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("change", [by_templates, by_password])
def test_a_change_without_its_entry_does_not_happen(
    change: Callable[[Client], Any], client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("no entry")

    User.objects.create_superuser("boss", password="secret")
    client.login(username="boss", password="secret")
    client.raise_request_exception = False
    with monkeypatch.context() as patch:
        patch.setattr("operations.audit.receivers.write", broken)
        assert change(client).status_code == 500
    assert not Template.objects.exists()
    assert User.objects.get().check_password("secret")
    assert change(client).status_code in (201, 302)
    assert AuditEntry.objects.filter(action__in=["template.created", "user.changed"]).count() == 1


def test_what_a_process_does_about_it_is_no_entry() -> None:
    broadcast = draft()
    with acting_as(EVE):
        send(broadcast, tomorrow())
    Broadcast.objects.filter(pk=broadcast.pk).update(scheduled_at=timezone.now())
    services.activate_due()
    assert [entry.action for entry in AuditEntry.objects.all()] == ["broadcast.scheduled"]


# Doors


def by_admin(broadcast: Broadcast, client: Client) -> None:
    url = f"/admin/broadcasts/broadcast/{broadcast.pk}/cancel/"
    client.post(url, {"confirmed": "yes", "reason": "Wrong people"})


def by_api(broadcast: Broadcast, client: Client) -> None:
    client.delete(f"/api/admin/broadcasts/{broadcast.pk}")


@pytest.mark.parametrize(("door", "cancel"), [("admin", by_admin), ("api", by_api)])
def test_each_door_names_who_came_in(
    door: str, cancel: Callable[[Broadcast, Client], None], client: Client
) -> None:
    broadcast = sent()
    user = operator("broadcasts.view_broadcast", "broadcasts.send_broadcast")
    client.force_login(user)
    cancel(broadcast, client)
    [entry] = AuditEntry.objects.all()
    assert (entry.action, entry.door) == ("broadcast.cancelled", door)
    assert (entry.user_id, entry.person, entry.via) == (user.pk, user.username, "")
    assert (entry.address, entry.subject_id) == ("127.0.0.1", str(broadcast.pk))
    assert entry.correlation_id


def test_who_comes_with_a_key_is_its_owner_by_the_name_of_the_key(settings: Any) -> None:
    settings.TRUSTED_PROXIES = 1
    user = User.objects.create_superuser("boss")
    made, written = keys.make(user, "Night shift", ["admin", "publish"])
    broadcast = sent()
    headers = {"X-API-Key": written, "X-Forwarded-For": "9.9.9.9, 198.51.100.7"}
    Client(headers=headers).delete(f"/api/admin/broadcasts/{broadcast.pk}")
    [entry] = AuditEntry.objects.all()
    assert (entry.person, entry.via) == ("boss", f"{made.key_id} Night shift")
    assert (entry.door, entry.address) == ("api", "198.51.100.7")


def test_a_row_that_the_admin_edits_is_one_entry(client: Client) -> None:
    template = Template.objects.create(name="Rest", title="Old")
    user = User.objects.create_superuser("boss")
    client.force_login(user)
    url = reverse("admin:broadcasts_template_change", args=[template.pk])
    form = client.get(url).context["adminform"].form
    data = {name: value or "" for name, value in form.initial.items()}
    client.post(url, data | {"title": "New", "translations": "{}"})
    template.refresh_from_db()
    entries = [(e.action, e.detail) for e in AuditEntry.objects.all()]
    assert entries == [("template.changed", {"changes": {"title": ["Old", template.title]}})]


def test_every_action_is_described() -> None:
    told = {
        argument.value
        for name, call in calls(sources())
        if name in {"did", "_told", "write"}
        for argument in call.args
        if isinstance(argument, ast.Constant) and TYPE.fullmatch(str(argument.value))
    }
    described = set(rows("audit.md", "Actions"))
    assert told <= described
    assert {action for action, *_ in VERBS} <= described


# Pages


def entries(count: int) -> None:
    now = timezone.now()
    AuditEntry.objects.bulk_create(
        [
            AuditEntry(
                at=now,
                action="broadcast.cancelled" if n % 2 else "job.paused",
                door="admin",
                user_id=7,
                person=f"person-{n % 3}",
                subject_type="broadcasts.broadcast",
                subject_id=str(n),
                subject=f"=Broadcast {n}",
                address="192.0.2.1",
                detail={"changes": {"title": ["Old", "New"]}, "reason": "Because"},
                correlation_id=f"id-{n}",
            )
            for n in range(count)
        ],
        batch_size=1_000,
    )


@pytest.fixture
def auditor(client: Client) -> Client:
    client.force_login(operator("operations.view_auditentry"))
    return client


LIST = "/admin/operations/auditentry/"
API = "/api/admin/audit"


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", 6),
        ("?action_is=job.paused", 3),
        ("?person=person-1", 2),
        ("?door__exact=admin", 6),
        ("?door__exact=api", 0),
        ("?q=person-2", 2),
        ("?q=192.0.2.1", 6),
        ("?q=id-4", 1),
        ("?q=Broadcast+3", 1),
    ],
)
def test_the_list_is_filtered_and_searched(auditor: Client, query: str, found: int) -> None:
    entries(6)
    assert auditor.get(LIST + query).context["cl"].queryset.count() == found


def test_the_list_costs_as_many_queries_for_many(
    auditor: Client, django_assert_max_num_queries: Any
) -> None:
    counts = []
    for more in (3, 40):
        entries(more)
        with django_assert_max_num_queries(20) as asked:
            assert auditor.get(LIST).status_code == 200
        counts.append(len(asked))
    assert counts[0] == counts[1]


def test_one_shows_what_was_and_what_is_and_leads_to_its_subject(auditor: Client) -> None:
    entries(1)
    entry = AuditEntry.objects.get()
    page = auditor.get(f"{LIST}{entry.pk}/change/").content.decode()
    assert "<del>Old</del>" in page
    assert "<ins>New</ins>" in page
    assert f'href="{reverse("admin:broadcasts_broadcast_change", args=[0])}"' in page
    assert "?q=id-0" in page


@pytest.mark.parametrize("path", ["add/", "1/delete/"])
def test_nobody_adds_or_deletes_one(client: Client, path: str) -> None:
    client.force_login(User.objects.create_superuser("boss"))
    entries(1)
    pk = AuditEntry.objects.get().pk
    for answer in (client.get, client.post):
        assert answer(LIST + path.replace("1", str(pk))).status_code == 403
    assert client.post(f"{LIST}{pk}/change/", {"person": "nobody"}).status_code == 403
    data = {"action": "delete_selected", "_selected_action": [pk]}
    client.post(LIST, data | {"post": "yes"})
    assert AuditEntry.objects.count() == 1


@pytest.mark.parametrize(
    "address", [LIST, f"{LIST}export/csv/", f"{LIST}export/jsonl/", API, f"{API}/1"]
)
def test_who_has_no_permission_sees_none(client: Client, address: str) -> None:
    assert client.get(address).status_code in (302, 401)
    client.force_login(operator("broadcasts.view_broadcast"))
    assert client.get(address).status_code == 403


def test_an_export_of_another_kind_is_not_found(auditor: Client) -> None:
    assert auditor.get(f"{LIST}export/exe/").status_code == 404


def test_the_export_is_what_the_list_shows(auditor: Client) -> None:
    entries(6)
    answer = auditor.get(f"{LIST}export/csv/?action_is=job.paused")
    lines = answer.getvalue().decode().splitlines()
    assert len(lines) == 4
    assert lines[0].startswith("\ufeffid,at,action,person")
    assert "'=Broadcast 4" in lines[1]
    assert 'filename="audit.csv"' in answer["Content-Disposition"]
    found = auditor.get(f"{LIST}export/jsonl/?q=id-3").getvalue().decode()
    assert '"action": "broadcast.cancelled"' in found
    assert found.count("\n") == 1


@pytest.mark.parametrize(("kind", "begun"), [("csv", 0), ("jsonl", 1)])
def test_ten_thousand_are_exported_a_batch_at_a_time(
    auditor: Client, django_assert_num_queries: Any, kind: str, begun: int
) -> None:
    entries(10_000)
    answer = auditor.get(f"{LIST}export/{kind}/")
    chunks = iter(answer)
    first = len(next(chunks))
    with django_assert_num_queries(6 - begun):  # the last finds nothing
        rest = [len(chunk) for chunk in chunks]
    assert max(first, *rest) < 1_500_000
    assert sum(1 for size in [first, *rest] if size) == (6 if kind == "csv" else 5)


def test_the_api_goes_by_cursor(auditor: Client) -> None:
    entries(5)
    seen: list[str] = []
    address = f"{API}?page_size=2"
    while address:
        page = auditor.get(address).json()
        seen += [entry["subject_id"] for entry in page["results"]]
        address = page["next"]
    assert seen == ["4", "3", "2", "1", "0"]


@pytest.mark.parametrize("position", ["abc", "9" * 5_000, "1.5"])
def test_a_cursor_that_is_none_is_no_page(auditor: Client, position: str) -> None:
    cursor = base64.b64encode(f"p={position}".encode()).decode()
    assert auditor.get(API, {"cursor": cursor}).status_code == 404


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("action=job.paused", 3),
        ("person=person-1", 2),
        ("user_id=7", 6),
        ("door=api", 0),
        ("address=192.0.2.1", 6),
        ("subject_type=broadcasts.broadcast&subject_id=3", 1),
        ("correlation_id=id-2", 1),
        ("search=person-2", 2),
        ("since=2100-01-01T00:00:00Z", 0),
        ("until=2100-01-01T00:00:00Z", 6),
    ],
)
def test_the_api_is_filtered(auditor: Client, query: str, found: int) -> None:
    entries(6)
    assert len(auditor.get(f"{API}?{query}").json()["results"]) == found


def test_the_api_costs_as_many_queries_for_many(
    auditor: Client, django_assert_num_queries: Any
) -> None:
    entries(40)
    with django_assert_num_queries(5):
        auditor.get(API)


@pytest.mark.parametrize("query", ["door=window", "since=yesterday", "user_id=eve"])
def test_the_api_says_what_is_wrong(auditor: Client, query: str) -> None:
    assert auditor.get(f"{API}?{query}").status_code == 400


@pytest.mark.parametrize("method", ["post", "put", "patch", "delete"])
def test_the_api_writes_nothing(client: Client, method: str) -> None:
    client.force_login(User.objects.create_superuser("boss"))
    entries(1)
    assert getattr(client, method)(f"{API}/{AuditEntry.objects.get().pk}").status_code == 405


def test_what_is_done_to_the_tasks_of_django_q_is_noted(client: Client) -> None:
    client.force_login(User.objects.create_superuser("boss"))
    now = timezone.now()
    times = {"started": now, "stopped": now, "success": False}
    failed = Failure.objects.create(id="f", name="f", func="jobs.tasks.tick", **times)
    waiting = OrmQ.objects.create(key="broadcast", payload="nonsense", lock=now)
    for address, data in {
        "failure/": {"action": "resubmit_selected", "_selected_action": [failed.pk]},
        f"ormq/{waiting.pk}/delete/": {"post": "yes"},
    }.items():
        assert client.post(f"/admin/django_q/{address}", data).status_code == 302
    found = AuditEntry.objects.order_by("pk").values_list("action", "person", "detail__func")
    assert list(found) == [
        ("task.resubmitted", "boss", "jobs.tasks.tick"),
        ("task.deleted", "boss", "None"),
    ]


def test_a_token_for_somebody_else_is_noted_unless_a_site_gets_it(client: Client) -> None:
    boss = User.objects.create_superuser("boss")
    reader = UserFactory.create()
    _, written = keys.make(boss, "Shop", ["admin", "stream"])
    client.force_login(boss)
    for who, name in (
        (Client(headers={"X-API-Key": written}), reader.username),
        (client, boss.username),
        (client, reader.username),
    ):
        asked = {"user": name}
        answer = who.post("/api/user/sse/token", asked, content_type="application/json")
        assert answer.status_code == 200
    found = AuditEntry.objects.filter(action="token.issued")
    assert [(entry.person, entry.subject_id) for entry in found] == [("boss", str(reader.pk))]

import io

import pytest
from django.contrib.auth.models import Group, User
from django.core.management import CommandError, call_command
from django.test import Client, override_settings
from pytest_django import DjangoAssertNumQueries, Settings

from broadcasts import demo, rules
from broadcasts.models import Broadcast, Product, RuleMatch, Series, Status, Template
from broadcasts.receipts import inbox_of, statistics
from domains.blog.services import compose, publish, withdraw
from domains.pantry.announcements import announce_stock
from outbox.models import Event

pytestmark = pytest.mark.django_db

EMPTY = "foodfolio.variant.stock.empty"


def run(**options: int) -> str:
    out = io.StringIO()
    with override_settings(DEBUG=True):
        call_command("demo", stdout=out, **options)
    return out.getvalue()


def test_it_is_refused_without_debug() -> None:
    with pytest.raises(CommandError, match="only with DEBUG=true"):
        call_command("demo")
    assert not User.objects.exists()


def test_its_logins_work(client: Client) -> None:
    run()
    assert User.objects.count() == 11
    for user in User.objects.all():
        assert client.login(username=user.username, password=user.username)
    assert User.objects.get(is_superuser=True).username == "admin"


def test_there_is_a_broadcast_in_every_state_that_an_operator_brings_about() -> None:
    run()
    statuses = set(Broadcast.objects.values_list("status", flat=True))
    assert statuses == {
        Status.DRAFT,
        Status.SCHEDULED,
        Status.ACTIVE,
        Status.EXPIRED,
        Status.CANCELLED,
    }
    assert Broadcast.objects.filter(external_id__contains="-2024-").count() == 20


def test_there_are_templates_and_a_series_once() -> None:
    run()
    Broadcast.objects.filter(external_id=demo.LAST).delete()
    run()
    assert [template.fields for template in Template.objects.all()] == [
        ["product", "start", "what"],
        ["product", "day", "start", "end"],
    ]
    assert Series.objects.get().broadcasts.get().status == Status.SCHEDULED


def test_a_shelf_that_is_empty_reaches_everyone_by_a_rule_once() -> None:
    run()
    announce_stock()
    empty = [event.envelope() for event in Event.objects.filter(type=EMPTY)]
    rules.apply(empty)
    rules.apply(empty)
    broadcast = Broadcast.objects.get(rule_match__type=EMPTY)
    assert (broadcast.title, broadcast.audience) == ("Rice is used up", "ALL")
    assert broadcast.expires_at


def test_only_what_is_published_in_the_blog_is_told() -> None:
    run()
    post = compose(None, title="Bread", content="Knead.")
    publish(post)
    withdraw(post)
    posts = Event.objects.filter(type__startswith="blog.post.", key=f"post-{post.pk}")
    rules.apply([event.envelope() for event in posts.order_by("id")])
    matches = RuleMatch.objects.filter(key=f"post-{post.pk}").order_by("id")
    assert [match.outcome for match in matches] == ["BROADCAST", "CONDITION"]
    told = Broadcast.objects.get(rule_match=matches[0])
    assert told.title == "New in the blog: Bread"
    assert told.content == "[Read it](http://localhost:8000/blog/bread)"


def test_where_a_second_person_must_approve_it_has_been_approved(settings: Settings) -> None:
    settings.BROADCAST_APPROVAL_FOR = ["ALL", "URGENT"]
    settings.BROADCAST_APPROVAL_ABOVE = 0
    run()
    welcome = Broadcast.objects.get(external_id=demo.LAST)
    assert (welcome.status, welcome.approval) == (Status.ACTIVE, "APPROVED")
    assert run() == "The demo data is there.\n"


def test_its_people_have_groups_products_and_an_inbox() -> None:
    run()
    names = {"Administrators", "Moderators", "Users"}
    assert names <= set(Group.objects.values_list("name", flat=True))
    composer, approver = (User.objects.get(username=name) for name in ("user-009", "user-010"))
    assert composer.has_perms(["broadcasts.send_broadcast", "blog.add_post", "links.add_link"])
    assert approver.has_perms(["broadcasts.approve_broadcast", "blog.view_post"])
    assert not User.objects.get(username="user-001").has_perm("broadcasts.view_broadcast")
    assert Product.objects.filter(slug__in=["payments", "analytics"]).count() == 2
    titles = inbox_of(User.objects.get(username="user-001")).values_list("title", flat=True)
    assert {"Welcome", "Your desk moves", "DEMO-2024-1: teapot-web"} <= set(titles)
    assert statistics(Broadcast.objects.get(external_id=demo.LAST)).read == 2


def test_a_second_time_it_is_one_query_and_changes_nothing(
    django_assert_num_queries: DjangoAssertNumQueries,
) -> None:
    run()
    counts = (Broadcast.objects.count(), Event.objects.count())
    with django_assert_num_queries(1):
        assert demo.create() is False
    assert run() == "The demo data is there.\n"
    assert (Broadcast.objects.count(), Event.objects.count()) == counts


def test_what_an_interruption_left_out_is_made_up_for() -> None:
    run()
    Broadcast.objects.filter(external_id__in=["demo-draft", demo.LAST]).delete()
    User.objects.filter(username="user-010").delete()
    assert run() == "Demo data created.\n"
    assert Broadcast.objects.count() == 29
    assert User.objects.count() == 11


def test_many_more_people_subscribe_at_random_but_the_same_each_time(client: Client) -> None:
    assert "30 more users" in run(users=30, subscriptions=3)
    assert client.login(username="user-00011", password="demo")
    subscriptions = Product.subscribers.through.objects.filter(user__username__gte="user-00011")
    of_many = subscriptions.filter(user__username__lt="user-001")
    assert of_many.count() == 90
    before = set(of_many.values_list("user__username", "product__slug"))
    User.objects.filter(username__gte="user-00011", username__lt="user-001").delete()
    run(users=30, subscriptions=3)
    assert set(of_many.values_list("user__username", "product__slug")) == before
    assert "5 more users" in run(users=35, subscriptions=3)

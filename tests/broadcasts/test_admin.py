from datetime import timedelta
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group, Permission, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone
from django.utils.formats import date_format

from broadcasts import services
from broadcasts.directory import ModelDirectory, UserServiceUnavailable
from broadcasts.models import Audience, Broadcast, Receipt, Status
from broadcasts.receipts import record_deliveries
from tests.factories import GroupFactory, ProductFactory, UserFactory

pytestmark = pytest.mark.django_db

LIST = "/admin/broadcasts/broadcast/"
ADD = f"{LIST}add/"


@pytest.fixture
def operator() -> User:
    return User.objects.create_superuser("operator", password="x")


@pytest.fixture
def console(client: Client, operator: User) -> Client:
    client.force_login(operator)
    return client


def staff(*permissions: str) -> Client:
    user = UserFactory.create(is_staff=True)
    user.user_permissions.add(*Permission.objects.filter(codename__in=permissions))
    client = Client()
    client.force_login(user)
    return client


def stored(**fields: Any) -> Broadcast:
    return Broadcast.objects.create(**{"title": "Some title", "content": "*Hi*"} | fields)


def member(username: str, role: str, **fields: Any) -> User:
    user = UserFactory.create(username=username, **fields)
    user.groups.add(Group.objects.get_or_create(name=role)[0])
    return user


def draft_form(**fields: Any) -> dict[str, Any]:
    return {"title": "Hello", "content": "*Hi*", "priority": 20, "audience": "ALL"} | fields


def at(name: str, moment: Any) -> dict[str, str]:
    local = timezone.localtime(moment)
    return {f"{name}_0": date_format(local, "Y-m-d"), f"{name}_1": f"{local:%H:%M:%S}"}


def page_of(broadcast: Broadcast, verb: str = "change") -> str:
    return f"{LIST}{broadcast.pk}/{verb}/"


def confirm(console: Client, url: str, **fields: Any) -> Any:
    return console.post(url, {"confirmed": "yes"} | fields, follow=True)


def errors_of(response: Any) -> dict[str, list[str]]:
    return dict(response.context["adminform"].form.errors)


def test_a_new_draft_is_saved_with_its_sender(console, operator):
    response = console.post(ADD, draft_form(_save="1"), follow=True)

    draft = Broadcast.objects.get()
    assert response.redirect_chain == [(page_of(draft), 302)]
    assert (draft.status, draft.sender, draft.sender_name) == ("DRAFT", operator, "operator")
    assert LogEntry.objects.filter(object_id=draft.pk, user=operator).exists()


def audiences() -> list[tuple[str, dict[str, Any]]]:
    return [
        ("ALL", {}),
        ("ROLE", {"targets_role": ["support"]}),
        ("PRODUCT", {"targets_product": ["django"]}),
        ("SELECTED", {"targets_pasted": "ann, bob\nann"}),
    ]


@pytest.mark.parametrize(("audience", "targets"), audiences(), ids=lambda value: str(value)[:8])
def test_a_broadcast_is_composed_and_sent_to_each_audience(console, audience, targets):
    ann = member("ann", "support")
    bob = member("bob", "support")
    ProductFactory.create(slug="django").subscribers.add(ann, bob)

    response = console.post(ADD, draft_form(audience=audience, _send="1", **targets), follow=True)
    broadcast = Broadcast.objects.get()
    people = {"ALL": 3}.get(audience, 2)  # the operator is somebody, too
    assert (str(response.context["question"].facts[0][1])) == str(people)
    assert broadcast.status == Status.DRAFT

    confirm(console, page_of(broadcast, "send"))
    broadcast.refresh_from_db()
    assert (broadcast.status, broadcast.targeted) == (Status.ACTIVE, people)


def test_chosen_and_pasted_people_are_stored_once_by_their_ids(console):
    ann, bob = UserFactory.create_batch(2)
    form = draft_form(
        audience="SELECTED", targets_selected=[ann.pk], targets_pasted=f"{ann.username} {bob.pk}"
    )
    console.post(ADD, form)
    assert Broadcast.objects.get().targets == [str(ann.pk), str(bob.pk)]


def test_the_pickers_of_other_audiences_are_ignored(console):
    console.post(ADD, draft_form(targets_role=["support"], targets_pasted="nobody"))
    assert Broadcast.objects.get().targets == []


def test_a_draft_is_scheduled(console):
    moment = timezone.now() + timedelta(hours=2)
    form = draft_form(_schedule="1", **at("scheduled_at", moment))
    response = console.post(ADD, form, follow=True)
    broadcast = Broadcast.objects.get()
    assert response.redirect_chain[-1][0] == f"{page_of(broadcast, 'send')}?when=scheduled"

    confirm(console, response.redirect_chain[-1][0])
    broadcast.refresh_from_db()
    assert broadcast.status == Status.SCHEDULED
    assert broadcast.scheduled_at == moment.replace(microsecond=0)


def test_send_now_warns_that_a_chosen_moment_is_not_kept(console):
    broadcast = stored(scheduled_at=timezone.now() + timedelta(hours=2))
    now = console.get(page_of(broadcast, "send")).context["question"]
    later = console.get(page_of(broadcast, "send") + "?when=scheduled").context["question"]
    assert "go back and press Schedule" in now.warning
    assert "press Schedule" not in later.warning


def test_send_now_does_not_wait_for_the_scheduled_moment(console):
    broadcast = stored(scheduled_at=timezone.now() + timedelta(hours=2))
    confirm(console, page_of(broadcast, "send"))
    broadcast.refresh_from_db()
    assert broadcast.status == Status.ACTIVE


@pytest.mark.parametrize(
    ("fields", "field", "words"),
    [
        ({"title": ""}, "title", "required"),
        ({"content": "x" * 70_000}, "content", "Shorten it"),
        ({"audience": "ROLE"}, "targets", "Choose at least one role"),
        ({"audience": "ROLE", "targets_role": ["gone"]}, "targets", "1 unknown: gone"),
        ({"audience": "PRODUCT"}, "targets", "Choose at least one product"),
        ({"audience": "SELECTED"}, "targets", "at least one person"),
        ({"audience": "SELECTED", "targets_pasted": "nobody 7777"}, "targets", "nobody, 7777"),
        ({"_schedule": "1"}, "scheduled_at", "Choose when"),
        ({"scheduled_at_0": "soon"}, "scheduled_at", "valid date"),
        ({"scheduled_at_0": "2099-01-31"}, "scheduled_at", "Enter a time as well"),
        ({"expires_at_0": "2020-01-01", "expires_at_1": "10:00"}, "expires_at", "has passed"),
        ({"force_logoff": "on"}, "force_logoff", "fire and forget"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_an_error_is_at_its_field_and_says_what_to_do(console, fields, field, words):
    response = console.post(ADD, draft_form(**fields))
    errors = errors_of(response)
    assert list(errors) == [field]
    assert len(errors[field]) == 1
    assert words in errors[field][0]
    assert not Broadcast.objects.exists()


def test_an_expiry_before_the_schedule_is_refused_at_its_field(console):
    now = timezone.now()
    moments = at("scheduled_at", now + timedelta(hours=3)) | at(
        "expires_at", now + timedelta(hours=2)
    )
    assert "lies before" in errors_of(console.post(ADD, draft_form(**moments)))["expires_at"][0]


def test_a_refused_form_shows_what_was_chosen(console):
    ProductFactory.create(slug="django", name="Django itself")
    UserFactory.create(username="ann")
    form = draft_form(title="", audience="PRODUCT", targets_product=["django"])
    assert '<option value="django" selected>Django itself' in console.post(ADD, form).text
    form = draft_form(title="", audience="SELECTED", targets_pasted="ann bo")
    assert ">ann bo</textarea>" in console.post(ADD, form).text


def test_many_people_are_edited_as_text(console):
    ids = [str(user.pk) for user in UserFactory.create_batch(60)]
    draft = stored(audience=Audience.SELECTED, targets=ids)
    assert "\n".join(ids) in console.get(page_of(draft)).text


class SilentDirectory(ModelDirectory):
    def targets(self, audience: str) -> Any:
        raise UserServiceUnavailable("timed out")

    def count(self, *_: Any) -> Any:
        raise UserServiceUnavailable("timed out")

    def sample(self, *_: Any, **__: Any) -> Any:
        raise UserServiceUnavailable("timed out")


@pytest.fixture
def silence(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("compose", "page"):
        monkeypatch.setattr(f"broadcasts.admin.{module}.get_directory", SilentDirectory)
    monkeypatch.setattr(services, "get_directory", SilentDirectory)


@pytest.mark.usefixtures("silence")
def test_a_directory_that_does_not_answer_is_said_and_breaks_nothing(console):
    said = "The directory does not answer (timed out)"
    assert said in console.get(ADD).text
    assert said in console.post(f"{LIST}reach/", {"audience": "ALL"}).json()["error"]
    assert said in console.get(f"{LIST}choices/?audience=PRODUCT").json()["error"]
    response = console.post(ADD, draft_form(audience="ROLE", targets_role=["support"]))
    assert said in errors_of(response)["targets"][0]
    draft = stored()
    assert "does not answer" in console.get(page_of(draft, "send")).text
    assert "tried again by itself" in confirm(console, page_of(draft, "send")).text


def test_nobody_in_the_audience_is_said_before_and_refused_at_sending(console):
    GroupFactory.create(name="empty")
    draft = stored(audience="ROLE", targets=["empty"])
    assert "Nobody belongs" in console.get(page_of(draft, "send")).text
    assert "choose another" in confirm(console, page_of(draft, "send")).text
    draft.refresh_from_db()
    assert draft.status == Status.DRAFT


def test_the_preview_is_rendered_and_harmless(console):
    answer = console.post(f"{LIST}preview/", {"content": "**b** <script>x</script>"}).json()
    assert "<strong>b</strong>" in answer["html"]
    assert "<script" not in answer["html"]


def test_the_reach_names_and_searches_people(console):
    member("ann", "support", first_name="Ann", last_name="Lee")
    member("bob", "support")
    form = {"audience": "ROLE", "targets_role": ["support"], "search": "lee"}
    answer = console.post(f"{LIST}reach/", form).json()
    assert answer == {"count": 2, "people": ["ann – Ann Lee"]}
    assert "at least one role" in console.post(f"{LIST}reach/", {"audience": "ROLE"}).json()["hint"]


def test_the_autocompletes_find_products_and_people_in_pages(console):
    ProductFactory.create(slug="django", name="Django")
    UserFactory.create_batch(30)
    found = console.get(f"{LIST}choices/?audience=PRODUCT&term=jan").json()["results"]
    assert found == [{"id": "django", "text": "Django"}]
    first = console.get(f"{LIST}choices/?audience=SELECTED&term=person-").json()
    second = console.get(f"{LIST}choices/?audience=SELECTED&term=person-&page=2").json()
    assert (len(first["results"]), first["pagination"]["more"]) == (20, True)
    assert (len(second["results"]), second["pagination"]["more"]) == (10, False)


def test_what_is_no_draft_cannot_be_edited_or_deleted(console):
    broadcast = services.send(stored())
    response = console.post(page_of(broadcast), draft_form(title="Other"), follow=True)
    assert "no draft any more" in response.text
    assert Broadcast.objects.get().title == broadcast.title
    assert console.post(page_of(broadcast, "delete"), {"post": "yes"}).status_code == 403


def test_a_draft_sent_meanwhile_is_not_overwritten(console, monkeypatch):
    draft = stored()
    monkeypatch.setattr(
        "broadcasts.admin.broadcasts.services.edit",
        lambda broadcast, **_: services.edit(services.send(Broadcast.objects.get(pk=draft.pk))),
    )
    response = console.post(page_of(draft), draft_form(title="Late"), follow=True)
    assert "Not saved" in response.text
    assert Broadcast.objects.get().title == draft.title


def test_cancelling_needs_a_reason_which_is_kept_in_the_history(console, operator):
    broadcast = services.send(stored())
    assert (
        "This field is required" in confirm(console, page_of(broadcast, "cancel"), reason="").text
    )
    confirm(console, page_of(broadcast, "cancel"), reason="wrong link")
    broadcast.refresh_from_db()
    assert (broadcast.status, broadcast.cancel_reason) == (Status.CANCELLED, "wrong link")
    entry = LogEntry.objects.get(object_id=broadcast.pk)
    assert (entry.user, entry.get_change_message()) == (operator, "Cancelled: wrong link")


def test_a_transition_that_is_not_allowed_is_a_message(console):
    broadcast = services.cancel(services.send(stored()), "x")
    assert "it cannot become" in confirm(console, page_of(broadcast, "cancel"), reason="y").text
    assert "Only a draft" in confirm(console, page_of(broadcast, "send")).text
    assert "it cannot become" in confirm(console, page_of(broadcast, "retry")).text


def test_a_question_alone_changes_nothing(console):
    broadcast = stored()
    for verb in ("send", "cancel", "duplicate", "retry", "test"):
        assert console.get(page_of(broadcast, verb)).status_code == 200
        console.post(page_of(broadcast, verb))
    broadcast.refresh_from_db()
    assert broadcast.status == Status.DRAFT
    assert Broadcast.objects.count() == 1


def test_the_actions_of_the_list_ask_and_then_do(console):
    drafts = [stored(), stored()]
    chosen = {"_selected_action": [draft.pk for draft in drafts]}
    question = console.post(LIST, chosen | {"action": "send_selected"})
    assert ("_selected_action", str(drafts[0].pk)) in question.context["reposted"]
    console.post(LIST, chosen | {"action": "send_selected", "confirmed": "yes"})
    assert set(Broadcast.objects.values_list("status", flat=True)) == {Status.ACTIVE}
    console.post(LIST, chosen | {"action": "duplicate_selected"})
    assert Broadcast.objects.filter(status=Status.DRAFT).count() == 2
    form = chosen | {"action": "cancel_selected", "confirmed": "yes", "reason": "both"}
    console.post(LIST, form)
    assert Broadcast.objects.filter(cancel_reason="both").count() == 2
    assert LogEntry.objects.filter(change_message__contains="both").count() == 2


def test_a_duplicate_is_a_draft_of_the_operator(console, operator):
    broadcast = services.send(stored(title="Same"))
    confirm(console, page_of(broadcast, "duplicate"))
    copy = Broadcast.objects.get(status=Status.DRAFT)
    assert (copy.title, copy.sender) == ("Same", operator)


def test_a_failed_preparation_is_retried(console):
    broadcast = stored(status=Status.FAILED, scheduled_at=timezone.now(), last_error="no")
    assert "no" in console.get(page_of(broadcast)).text
    confirm(console, page_of(broadcast, "retry"))
    broadcast.refresh_from_db()
    assert (broadcast.status, broadcast.last_error) == (Status.SCHEDULED, "")


def test_a_test_reaches_only_the_operator(console, operator):
    draft = stored(title="Big news")
    confirm(console, page_of(draft, "test"))
    test = Broadcast.objects.get(status=Status.ACTIVE)
    assert (test.title, test.targets) == ("[Test] Big news", [str(operator.pk)])


def test_the_page_shows_numbers_that_link_to_their_proof(console):
    people = UserFactory.create_batch(4)
    broadcast = stored(audience="SELECTED", targets=[str(user.pk) for user in people])
    services.send(broadcast)
    record_deliveries(broadcast.pk, [people[0].pk], timezone.now())
    numbers = console.get(page_of(broadcast, "numbers")).json()
    delivered = numbers["stages"][0]
    assert (numbers["targeted"], delivered["count"], delivered["rate"]) == ("4", "1", "25%")
    assert numbers["moving"]
    assert delivered["url"].replace("&", "&amp;") in console.get(page_of(broadcast)).text
    proof = console.get(delivered["url"])
    assert [row.user for row in proof.context["cl"].result_list] == [people[0]]


@pytest.mark.parametrize("status", [s for s in Status if s != Status.DRAFT])
def test_every_status_has_its_page(console, status):
    now = timezone.now()
    broadcast = stored(
        status=status, scheduled_at=now, activated_at=now, finished_at=now, cancel_reason="why"
    )
    response = console.get(page_of(broadcast))
    assert response.status_code == 200
    assert str(status.label) in response.text


def test_receipts_are_searched_by_the_beginning_of_a_username(console):
    ann, bob = UserFactory.create(username="ann"), UserFactory.create(username="bob")
    broadcast = stored()
    Receipt.objects.bulk_create(Receipt(broadcast=broadcast, user=user) for user in (ann, bob))
    rows = console.get("/admin/broadcasts/receipt/?q=An").context["cl"].result_list
    assert [row.user for row in rows] == [ann]


@pytest.mark.parametrize(
    "path",
    [
        LIST,
        "/admin/broadcasts/receipt/",
        "/admin/broadcasts/product/",
        "/admin/auth/user/",
        "/admin/",
    ],
)
def test_a_list_costs_the_same_with_2_rows_and_with_20(console, path):
    def cost() -> int:
        with CaptureQueriesContext(connection) as queries:
            assert console.get(path).status_code == 200
        return len(queries)

    add_rows(2)
    console.get(path)  # content types and such are asked once a process
    few = cost()
    add_rows(18)
    assert cost() == few
    assert few < 30


def add_rows(count: int) -> None:
    for number in range(count):
        product = ProductFactory.create()
        product.subscribers.add(UserFactory.create())
        broadcast = stored(
            audience="PRODUCT", targets=[product.slug], category=f"category {number % 2}"
        )
        services.send(broadcast)
        people = list(product.subscribers.values_list("pk", flat=True))
        record_deliveries(broadcast.pk, people, timezone.now())


def test_the_list_fetches_neither_targets_nor_content(console):
    add_rows(1)
    with CaptureQueriesContext(connection) as queries:
        console.get(LIST)
    rows = [q["sql"] for q in queries if '"broadcasts_broadcast"."title"' in q["sql"]]
    assert rows
    assert not [sql for sql in rows if '"broadcasts_broadcast"."content",' in sql]


def test_the_list_is_searched_and_filtered(console):
    stored(title="Apples", reference="CVE-1")
    services.send(stored(title="Pears"))
    assert titles(console.get(f"{LIST}?q=CVE-1")) == ["Apples"]
    assert titles(console.get(f"{LIST}?status__exact=ACTIVE")) == ["Pears"]


def titles(response: Any) -> list[str]:
    return [row.title for row in response.context["cl"].result_list]


@pytest.mark.parametrize("page", ["9" * 30, "9" * 5_000, "0", "x"])
def test_a_page_that_cannot_be_is_the_first(console, page):
    UserFactory.create(username="person-1")
    found = console.get(f"{LIST}choices/?audience=SELECTED&term=person-&page={page}").json()
    assert len(found["results"]) == 1


@pytest.mark.parametrize("search", ["person " * 2_000, "\0person"])
def test_a_search_of_any_length_is_answered(console, search):
    UserFactory.create(username="person-1")
    answer = console.post(f"{LIST}reach/", {"audience": "ALL", "search": search}).json()
    assert answer["people"] == ["person-1"]


@pytest.mark.parametrize("digits", [30, 5_000])
def test_numbers_that_are_nobodys_id_are_named(console, digits):
    form = {"audience": "SELECTED", "targets_pasted": "9" * digits}
    assert "nobody's" in console.post(f"{LIST}reach/", form).json()["hint"]
    assert console.get(f"{LIST}{'9' * digits}/change/").status_code == 404


OWN_VIEWS = ["preview/", "reach/", "choices/"]
VERBS = ["send", "cancel", "retry", "duplicate", "test", "numbers", "change"]


def test_the_anonymous_are_sent_to_the_login(client):
    broadcast = stored()
    for url in [LIST, ADD, *(LIST + v for v in OWN_VIEWS), *(page_of(broadcast, v) for v in VERBS)]:
        response = client.get(url)
        assert response.status_code == 302
        assert response.url.startswith("/admin/login/")


def test_staff_without_permission_are_refused():
    broadcast, client = stored(), staff()
    for url in [LIST, ADD, *(page_of(broadcast, verb) for verb in VERBS)]:
        assert client.get(url).status_code == 403
    for view in ("preview/", "reach/"):
        assert client.post(LIST + view).status_code == 403
    assert client.get(f"{LIST}choices/").status_code == 403


def test_composing_does_not_include_sending():
    client = staff("view_broadcast", "add_broadcast", "change_broadcast")
    broadcast = stored()
    assert 'name="_send"' not in client.get(page_of(broadcast)).text
    for verb in ("send", "cancel", "retry", "test"):
        assert client.post(page_of(broadcast, verb), {"confirmed": "yes"}).status_code == 403
    form = {"action": "send_selected", "_selected_action": [broadcast.pk], "confirmed": "yes"}
    client.post(LIST, form)
    broadcast.refresh_from_db()
    assert broadcast.status == Status.DRAFT


def test_viewers_see_the_numbers_and_no_buttons():
    client = staff("view_broadcast")
    broadcast = services.send(stored())
    assert client.get(page_of(broadcast, "numbers")).status_code == 200
    assert page_of(broadcast, "cancel") not in client.get(page_of(broadcast)).text


def test_what_is_asked_by_post_is_not_answered_by_get(console):
    assert console.get(f"{LIST}preview/").status_code == 405
    assert console.get(f"{LIST}reach/").status_code == 405


def test_the_dashboard_says_what_to_do_first(console):
    assert "Compose a broadcast" in console.get(reverse("admin:index")).text


def test_the_dashboard_shows_only_what_may_be_seen():
    stored(title="Secret")
    assert "Secret" in staff("view_broadcast").get(reverse("admin:index")).text
    response = staff().get(reverse("admin:index"))
    assert "Secret" not in response.text
    assert "Ask an administrator" in response.text

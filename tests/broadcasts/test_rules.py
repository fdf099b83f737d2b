"""Rules: what they do about events, once for each, and what they never answer to."""

import re
from datetime import UTC, datetime, timedelta
from html import escape, unescape
from typing import Any

import pytest
import time_machine
from django.core.exceptions import ValidationError
from django.db import IntegrityError, connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from hypothesis import example, given
from hypothesis import strategies as st
from pytest_django import Settings

from broadcasts import rules
from broadcasts.approvals import OwnWork
from broadcasts.fillings import fill_texts
from broadcasts.markdown import render
from broadcasts.models import Approval, Broadcast, Outcome, Rule, RuleMatch, Status
from broadcasts.rules import RULES
from broadcasts.services import ChangedMeanwhile, InvalidTransition, activate_due, cancel
from broadcasts.tasks import TOPICS, RuleReader, delete_old_matches
from operations.models import Kind
from operations.services import raise_alert
from outbox.consumers import groups
from outbox.models import DeadLetter, Event
from outbox.patterns import ADDRESSED, INTERNAL
from outbox.relay import Relay
from outbox.services import emit
from outbox.topics import BROADCASTS
from tests.factories import GroupFactory, UserFactory

pytestmark = pytest.mark.django_db
EXPIRED = {"code": "spring", "clicks": 3, "owner": {"name": "Ann"}}


@pytest.fixture(autouse=True)
def noon() -> Any:
    with time_machine.travel(datetime(2030, 1, 31, 12, tzinfo=UTC), tick=False) as traveller:
        yield traveller


def made(**fields: Any) -> Rule:
    given = {"name": "Links", "pattern": "link.*", "title": "{{ code }} is over"} | fields
    return rules.create(Rule(**given), fields.get("sender"))


def happens(kind: str = "link.expired", key: str = "link-1", **data: Any) -> dict[str, Any]:
    """The envelope of an event of this moment."""
    with transaction.atomic():
        event = emit(kind, key, EXPIRED | data)
    now_is_when_they_happened()
    event.refresh_from_db()
    return event.envelope()


def now_is_when_they_happened() -> None:
    """The database stamps events itself, and does not travel."""
    Event.objects.filter(created_at__year__lt=2030).update(created_at=timezone.now())


def outcomes() -> list[str]:
    return list(RuleMatch.objects.order_by("pk").values_list("outcome", flat=True))


def test_an_event_that_matches_is_broadcast_with_its_fields():
    GroupFactory.create(name="Editors")
    rule = made(
        content="By {{ owner.name }}, *{{ clicks }}* clicks.",
        translations={"de": {"title": "{{ code }} ist vorbei", "content": ""}},
        audience="ROLE",
        targets=["Editors"],
        priority=30,
        category="links",
        life="8h",
    )
    rules.apply([happens()])
    broadcast = Broadcast.objects.get()
    assert (broadcast.title, broadcast.content) == ("spring is over", "By Ann, *3* clicks.")
    assert broadcast.translations == {"de": {"title": "spring ist vorbei", "content": ""}}
    assert (broadcast.audience, broadcast.targets) == ("ROLE", ["Editors"])
    assert (broadcast.priority, broadcast.category) == (30, "links")
    assert broadcast.expires_at == datetime(2030, 1, 31, 20, tzinfo=UTC)
    assert broadcast.status == Status.SCHEDULED
    activate_due()
    broadcast.refresh_from_db()
    assert broadcast.status == Status.ACTIVE
    match = rule.matches.get()
    assert (match.outcome, match.broadcast, match.key) == ("BROADCAST", broadcast, "link-1")


def test_an_event_that_comes_again_is_broadcast_once():
    made()
    envelope = happens()
    rules.apply([envelope])
    rules.apply([envelope])
    rules.apply([happens(), envelope])
    assert Broadcast.objects.count() == 2
    assert outcomes() == ["BROADCAST", "BROADCAST"]


def test_the_database_refuses_a_second_match_of_an_event():
    rule = made()
    envelope = happens()
    rules.apply([envelope])
    with pytest.raises(IntegrityError), transaction.atomic():
        RuleMatch.objects.create(
            rule=rule, event_id=envelope["id"], type="link.expired", outcome="BROADCAST"
        )


def test_two_rules_each_broadcast_it():
    made()
    made(name="More", title="Again {{ code }}", pattern="*")
    rules.apply([happens()])
    assert set(Broadcast.objects.values_list("title", flat=True)) == {
        "spring is over",
        "Again spring",
    }


@pytest.mark.parametrize(
    ("pattern", "matches"),
    [("link.expired", 1), ("link.*", 1), ("*", 1), ("link.expired.*", 0), ("blog.*", 0),
     ("link.expire", 0)],
)  # fmt: skip
def test_a_pattern_is_a_type_or_its_beginning(pattern, matches):
    made(pattern=pattern)
    rules.apply([happens()])
    assert RuleMatch.objects.count() == matches


def test_a_condition_that_is_not_met_is_recorded_with_what_is_there():
    made(conditions=[{"field": "clicks", "operator": "greater", "value": 5}])
    rules.apply([happens(), happens(clicks=9)])
    first, second = RuleMatch.objects.order_by("pk")
    assert (first.outcome, first.broadcast) == ("CONDITION", None)
    assert first.note == "Not met: clicks is greater than 5. It is 3."
    assert second.outcome == "BROADCAST"


@pytest.mark.parametrize(
    ("fields", "note"),
    [
        ({"title": "{{ title }} of {{ owner.age }}"}, "The event has no title, owner.age to"),
        ({"content": "{{ owner }}"}, "The event has no owner to fill in."),
        ({"translations": {"de": {"title": "{{ x }}", "content": ""}}}, "no x to fill in"),
        ({"title": "{{ said }}"}, "at most 200 characters"),
        ({"title": "{{ blank }}"}, "This field cannot be blank."),
    ],
)
def test_what_cannot_be_filled_in_is_recorded_and_nothing_is_sent(fields, note):
    made(**fields)
    rules.apply([happens(said="x" * 201, blank=" ")])
    match = RuleMatch.objects.get()
    assert match.outcome == Outcome.ERROR
    assert note in match.note
    assert not Broadcast.objects.exists()


def test_what_an_event_says_is_text_and_no_markdown():
    made(title="{{ code }}", content="{{ code }}")
    rules.apply([happens(code="[win](https://evil.example) *now*\n# <b>")])
    broadcast = Broadcast.objects.get()
    assert broadcast.title == "[win](https://evil.example) *now* # <b>"
    assert "<b>" not in broadcast.html
    assert "<em>" not in broadcast.html
    assert ">win</a>" not in broadcast.html


def read(html):
    """As people read it: a.az is a link, since there is such a domain, and the same text."""
    return unescape(re.sub("</?a[^>]*>", "", html))


@example("a.a")
@given(st.text(alphabet="`*_[]()<>&#~|\\\n ab1.-+!", max_size=30))
def test_whatever_an_event_says_is_read_as_it_is(said):
    rule = Rule(title="x", content="a{{ said }}z", language="en")
    html = render(fill_texts(rule, {"said": said})["content"])
    assert read(html) == f"<p>a{' '.join(said.split())}z</p>\n"


@given(st.text(alphabet="`*_[]()<>&#~|\\\n ab1.-+=!", max_size=30))
def test_nor_is_what_begins_a_line_anything_else(said):
    rule = Rule(title="x", content="x\n\n{{ said }} z", language="en")
    html = render(fill_texts(rule, {"said": said})["content"])
    line = f"{' '.join(said.split())} z".strip()
    assert read(html) == f"<p>x</p>\n<p>{line}</p>\n"


@pytest.mark.parametrize("content", ["See {{ url }}", "See [it]({{ url }})"])
def test_an_address_that_an_event_names_leads_where_it_says(content):
    url = "https://example.org/a_b_c/~d?x=1&y=2#top"
    rule = Rule(title="x", content=content, language="en")
    html = render(fill_texts(rule, {"url": url})["content"])
    assert f'href="{escape(url)}"' in html


def test_moments_lists_and_answers_are_said_in_the_language_of_the_text():
    made(
        title="{{ at }}",
        content="{{ tags }}, {{ paid }}, {{ price }}",
        translations={"de": {"title": "{{ at }}", "content": "{{ paid }}, {{ price }}"}},
    )
    rules.apply([happens(at="2030-01-31T21:40:00+02:00", tags=["a", 1], paid=True, price=1.5)])
    broadcast = Broadcast.objects.get()
    assert (broadcast.title, broadcast.content) == (
        "31 Jan 2030, 19:40 UTC",
        "a, 1, yes, 1.5",
    )
    assert broadcast.translations["de"]["title"] == "31. Januar 2030 19:40 UTC"
    assert broadcast.translations["de"]["content"].endswith("1,5")


def test_the_event_itself_has_fields():
    made(title="{{ event.type }} of {{ event.key }}")
    rules.apply([happens()])
    assert Broadcast.objects.get().title == "link.expired of link-1"


def test_a_cool_down_lets_one_through(noon):
    made(cool_down="30m")
    rules.apply([happens(), happens(key="link-2")])
    noon.shift(timedelta(minutes=29))
    rules.apply([happens()])
    noon.shift(timedelta(minutes=1))
    rules.apply([happens()])
    assert outcomes() == ["BROADCAST", "COOL_DOWN", "COOL_DOWN", "BROADCAST"]
    assert "less than 30m" in RuleMatch.objects.filter(outcome="COOL_DOWN")[0].note


def test_a_cool_down_of_each_key_lets_one_of_each_through(noon):
    made(cool_down="30m", per_key=True)
    rules.apply([happens(), happens(key="link-2"), happens()])
    noon.shift(timedelta(minutes=10))
    rules.apply([happens(key="link-2"), happens(key="link-3")])
    assert outcomes() == ["BROADCAST", "BROADCAST", "COOL_DOWN", "COOL_DOWN", "BROADCAST"]


def test_what_happened_before_it_was_switched_on_is_not_broadcast(noon):
    before = happens()
    noon.shift(timedelta(seconds=1))
    rule = made()
    rules.apply([before])
    during = happens()
    rules.stop(rule)
    while_off = happens()
    rules.apply([during, while_off])
    noon.shift(timedelta(seconds=1))
    rules.start(rule)
    rules.apply([while_off])
    assert not RuleMatch.objects.exists()
    rules.apply([happens()])
    assert outcomes() == ["BROADCAST"]


def test_a_change_keeps_what_happens_meanwhile(noon):
    rule = made()
    during = happens()
    noon.shift(timedelta(seconds=1))
    rules.change(rule, title="Over: {{ code }}")
    rules.apply([during])
    assert Broadcast.objects.get().title == "Over: spring"


def test_an_event_older_than_the_log_is_passed_over(noon, settings: Settings):
    made()
    old = happens()
    noon.shift(timedelta(days=settings.EVENT_RETENTION_DAYS, seconds=1))
    rules.apply([old])
    assert not RuleMatch.objects.exists()


def test_old_matches_are_deleted_but_never_before_their_event_is_too_old(noon, settings: Settings):
    settings.RULE_RETENTION_DAYS = 1
    made()
    rules.apply([happens()])
    noon.shift(timedelta(days=settings.EVENT_RETENTION_DAYS))
    assert delete_old_matches() == 0
    noon.shift(timedelta(days=1, seconds=1))
    assert delete_old_matches() == 1
    assert Broadcast.objects.exists()


# Loops


@pytest.mark.parametrize("pattern", [*(f"{name}.*" for name in ADDRESSED), *INTERNAL, "broadcast"])
def test_a_rule_that_would_answer_to_broadcasts_is_refused(pattern):
    with pytest.raises(ValidationError, match="would answer to itself"):
        made(pattern=pattern)


def test_the_topic_of_broadcasts_is_not_even_read():
    assert BROADCASTS not in TOPICS
    assert BROADCASTS not in groups[RULES].topics
    assert "link" in TOPICS


def test_nothing_that_a_broadcast_causes_matches_a_rule_for_everything():
    """Its whole life, with its readers: none of the events goes by."""
    rule = made(pattern="*", title="{{ event.type }}")
    rules.apply([happens()])
    activate_due()
    broadcast = Broadcast.objects.get()
    cancel(broadcast)
    caused = Event.objects.exclude(type="link.expired")
    assert {"broadcast.scheduled", "broadcast.activated", "broadcast.cancelled"} <= set(
        caused.values_list("type", flat=True)
    )
    assert not [event for event in caused if rule.wants(event.type)]
    rules.apply([event.envelope() for event in caused])
    assert outcomes() == ["BROADCAST"]
    assert Broadcast.objects.count() == 1


def test_an_event_that_tells_of_a_broadcast_of_a_rule_is_recorded_and_not_broadcast():
    made()
    rules.apply([happens()])
    broadcast = Broadcast.objects.get()
    rules.apply([happens(broadcast_id=broadcast.pk), happens(broadcast_ids=[0, broadcast.pk])])
    rules.apply([happens(broadcast_id=broadcast.pk + 1)])
    assert outcomes() == ["BROADCAST", "LOOP", "LOOP", "BROADCAST"]


def test_a_fact_that_is_told_in_parts_is_one():
    made()
    rules.apply([happens() | {"part": "1"}])
    assert not RuleMatch.objects.exists()


# Through the log


def test_the_reader_broadcasts_what_was_published():
    made(pattern="alert.*", title="{{ subject }}: {{ message }}")
    raise_alert(Kind.FAILING, "LINK_EXPIRATION", "it failed")
    happens("endpoint.disabled", name="Shop")
    relay, reader = Relay(), RuleReader()
    relay.step()
    reader.step()
    reader.stop()
    assert Broadcast.objects.get().title == "LINK_EXPIRATION: it failed"
    assert not DeadLetter.objects.exists()


def test_a_batch_costs_the_same_whatever_it_has_that_matches_no_rule():
    made(pattern="blog.*")
    envelopes = [happens(key=f"link-{n}") for n in range(50)]
    with CaptureQueriesContext(connection) as queries:
        rules.apply(envelopes)
    assert len(queries) == 1


def test_a_batch_of_which_nothing_is_broadcast_costs_a_fixed_number():
    made(conditions=[{"field": "clicks", "operator": "less", "value": 0}], cool_down="1h")

    def cost(count: int) -> int:
        envelopes = [happens(key=f"link-{n}") for n in range(count)]
        with CaptureQueriesContext(connection) as queries:
            rules.apply(envelopes)
        return len(queries)

    assert cost(5) == cost(90)


# Operators


@pytest.mark.parametrize(
    ("fields", "field", "words"),
    [
        ({"pattern": "Link expired"}, "pattern", "write an event type"),
        ({"title": "{{ a b }}"}, "title", "is no field of an event"),
        ({"content": "{{ a"}, "content", "not closed"),
        ({"translations": {"de": {"title": "{{ }}", "content": ""}}}, "translations", "de: “{{ }}"),
        ({"life": "long"}, "life", "is no duration"),
        ({"cool_down": "soon"}, "cool_down", "is no duration"),
        ({"per_key": True}, "per_key", "Write a cool-down as well"),
        ({"conditions": [{"field": "a", "operator": "is"}]}, "conditions", "is no operator"),
        ({"audience": "ROLE", "targets": ["Nobody"]}, "targets", "1 unknown: Nobody"),
        ({"force_logoff": True}, "__all__", "needs fire and forget"),
    ],
)
def test_what_is_wrong_is_said_at_its_field(fields, field, words):
    with pytest.raises(ValidationError) as caught:
        made(**fields)
    assert list(caught.value.message_dict) == [field]
    assert words in caught.value.message_dict[field][0]
    assert not Rule.objects.exists()


def test_who_changes_what_somebody_else_changed_meanwhile_is_told():
    rule = made()
    rules.change(Rule.objects.get(), title="New")
    with pytest.raises(ChangedMeanwhile):
        rules.change(rule, title="Other")


def test_switching_twice_is_refused():
    rule = made()
    with pytest.raises(InvalidTransition, match="active already"):
        rules.start(rule)
    rules.stop(rule)
    with pytest.raises(InvalidTransition, match="switched off already"):
        rules.stop(rule)


def test_a_second_person_lets_it_answer(settings: Settings):
    settings.BROADCAST_APPROVAL_FOR = ["ALL"]
    author, other = UserFactory.create_batch(2)
    rule = rules.create(Rule(name="Links", pattern="link.*", title="{{ code }}"), author)
    assert (rule.approval, rule.is_live) == (Approval.REQUESTED, False)
    rules.apply([happens()])
    assert not RuleMatch.objects.exists()
    with pytest.raises(OwnWork):
        rules.approve(rule, author)
    rules.approve(rule, other, rule.version)
    rules.apply([happens()])
    assert outcomes() == ["BROADCAST"]

    rules.change(rule, editor=other, title="New {{ code }}")
    assert rule.awaits_approval
    with pytest.raises(OwnWork):
        rules.approve(rule, other)
    with pytest.raises(ChangedMeanwhile):
        rules.approve(rule, author, version=1)
    rules.apply([happens()])
    assert outcomes() == ["BROADCAST"]


def test_an_approval_outlasts_a_pause_but_is_asked_for_when_the_rules_came_later(
    settings: Settings,
):
    author, other = UserFactory.create_batch(2)
    rule = rules.create(Rule(name="Links", pattern="link.*", title="{{ code }}"), author)
    rules.stop(rule)
    settings.BROADCAST_APPROVAL_FOR = ["ALL"]
    assert rules.start(rule).awaits_approval
    rules.stop(rule)
    assert rules.start(rule).awaits_approval
    rules.approve(rule, other)
    rules.stop(rule)
    assert rules.start(rule).is_live
    with pytest.raises(InvalidTransition, match="waits for no approval"):
        rules.approve(rule, other)


def test_each_step_tells_of_itself():
    rule = made()
    rules.change(rule, title="Other")
    rules.stop(rule)
    rules.start(rule)
    told = Event.objects.filter(key=f"rule-{rule.pk}").order_by("pk")
    assert list(told.values_list("type", flat=True)) == [
        "broadcast.rule.changed",
        "broadcast.rule.changed",
        "broadcast.rule.stopped",
        "broadcast.rule.started",
    ]


def test_a_rehearsal_says_what_would_have_been_and_writes_nothing(noon):
    for clicks in (1, 9, 9):
        happens(clicks=clicks)
        noon.shift(timedelta(minutes=10))
    happens(clicks=9)
    happens("blog.post.published")
    with transaction.atomic():
        emit("link.created", "link-9", {"clicks": 9})
    now_is_when_they_happened()
    rule = Rule(
        pattern="link.*",
        title="{{ code }}",
        language="en",
        cool_down="20m",
        conditions=[{"field": "clicks", "operator": "greater", "value": 5}],
    )
    found = rules.rehearse(rule, 50)
    assert [(event.type, verdict.outcome.value) for event, verdict in found] == [
        ("link.created", "ERROR"),
        ("link.expired", "BROADCAST"),
        ("link.expired", "COOL_DOWN"),
        ("link.expired", "BROADCAST"),
        ("link.expired", "CONDITION"),
    ]
    assert len(rules.rehearse(rule, 2)) == 2
    assert not Broadcast.objects.exists()
    assert not RuleMatch.objects.exists()


def test_examples_are_of_the_log_and_never_of_broadcasts():
    happens()
    made()
    assert [event.type for event in rules.examples("*", 5)] == ["link.expired"]

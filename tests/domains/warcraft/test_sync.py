"""What goes wrong, and that it stays with whom it concerns."""

from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import time_machine
from django.core.cache import cache
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from pytest_django import Settings

from domains.warcraft import answers, budget, characters, services, sync
from domains.warcraft.battlenet import Client, CredentialsRefused, Held
from domains.warcraft.models import Budget, Character, Guild, Status
from domains.warcraft.services import next_slot, readdress, refresh
from domains.warcraft.tasks import count_characters, sync_characters, sync_guilds
from jobs import clock
from jobs.execution import claim, execute
from jobs.models import Job, Run, RunStatus
from jobs.registry import Outcome, periodic_jobs
from outbox.models import Event
from tests.domains.warcraft.battlenet import (
    MODIFIED,
    World,
    always,
    answering,
    break_off,
    hang,
    nonsense,
)

pytestmark = pytest.mark.django_db

DAY = timedelta(days=1)

# Else, in the last minutes before it, what is put off for a while misses the next run.
far_from_a_slot = time_machine.travel(datetime(2026, 11, 20, 13, tzinfo=UTC))


def follow(*names: str, region: str = "us") -> list[Character]:
    return [Character.objects.create(name=name, realm="Area 52", region=region) for name in names]


def make_due() -> None:
    Character.objects.update(next_try_at=timezone.now() - timedelta(seconds=1))


def row(name: str) -> Character:
    return Character.objects.get(name_slug=name.lower())


def test_without_credentials_the_job_says_so_and_asks_nobody(
    world: World, settings: Settings
) -> None:
    settings.BATTLENET_CLIENT_SECRET = ""
    follow("Aelwyn")
    outcome = sync_characters()
    assert (outcome.items, outcome.skipped) == (0, 1)
    assert "BATTLENET_CLIENT_SECRET" in outcome.note
    assert not world.asked
    assert row("Aelwyn").status == Status.NEW


def test_wrong_credentials_are_one_error_and_no_row_has_it(world: World) -> None:
    world.secret = "another"
    follow(*(f"Name{n}" for n in range(10)))
    with pytest.raises(CredentialsRefused, match=r"401.*BATTLENET_CLIENT_SECRET"):
        sync_characters()
    assert world.counts["token"] == 1
    assert not world.asked
    assert Character.objects.filter(status=Status.NEW, failures=0).count() == 10


def test_wrong_credentials_of_china_leave_the_others(world: World, settings: Settings) -> None:
    settings.BATTLENET_CN_CLIENT_ID, settings.BATTLENET_CN_CLIENT_SECRET = "client", "wrong"
    world.character("Aelwyn")
    follow("Aelwyn")
    follow("Aelwyn", region="cn")
    outcome = sync_characters()
    assert (outcome.items, outcome.skipped) == (1, 1)
    assert "BATTLENET_CN_CLIENT_SECRET" in outcome.note


def test_a_token_is_fetched_once_and_kept_for_the_next_run(world: World) -> None:
    world.everybody = True
    follow(*(f"Name{n}" for n in range(20)))
    sync_characters()
    make_due()
    sync_characters()
    assert world.counts["token"] == 1


def test_a_token_near_its_end_is_not_kept_for_long(world: World) -> None:
    world.expires_in = 310
    follow("Aelwyn")
    sync_characters()
    (key,) = [k for k in cache._cache if "battlenet-token" in k]  # type: ignore[attr-defined]
    assert cache._expire_info[key] - timezone.now().timestamp() < 31  # type: ignore[attr-defined]


def test_a_token_that_is_refused_is_replaced_and_the_row_does_not_notice(world: World) -> None:
    world.everybody = True
    follow("Aelwyn")
    sync_characters()
    world.refused.update(world.tokens)
    make_due()
    assert sync_characters().items == 1
    assert world.counts["token"] == 2


def test_a_client_whose_tokens_are_refused_ends_the_run(world: World) -> None:
    follow(*(f"Name{n}" for n in range(50)))
    world.instead("*", always(answering(401)))
    world.instead("/token", always(answering(200, {"access_token": "x", "expires_in": 1_000})))
    with pytest.raises(CredentialsRefused):
        sync_characters()
    assert Character.objects.filter(status=Status.NEW).count() >= 45


def test_who_is_gone_is_marked_and_asked_for_seldom(world: World) -> None:
    world.character("Aelwyn")
    follow("Aelwyn", "Nobody")
    outcome = sync_characters()
    assert (outcome.items, outcome.failed) == (1, 1)
    gone = row("Nobody")
    assert (gone.status, gone.failures) == (Status.GONE, 1)
    assert "404" in gone.last_error
    assert gone.next_try_at > clock.now() + 6 * DAY
    world.character("Nobody")
    refresh(Character.objects.filter(pk=gone.pk))
    sync_characters()
    back = row("Nobody")
    assert (back.status, back.failures, back.last_error) == (Status.OK, 0, "")


@pytest.mark.parametrize(
    ("trouble", "words"),
    [
        (answering(503), "fails (503)"),
        (break_off, "does not answer: RemoteProtocolError"),
        (hang, "does not answer: ReadTimeout"),
    ],
    ids=["503", "broken off", "no answer"],
)
@far_from_a_slot
def test_what_fails_is_tried_again_and_then_later(
    world: World, settings: Settings, trouble: Any, words: str
) -> None:
    settings.BATTLENET_TIMEOUT = 0.2
    path = world.character("Aelwyn")
    world.instead(path, trouble, trouble)
    follow("Aelwyn")
    assert sync_characters().items == 1
    assert world.counts[path] == 3
    world.instead(path, always(trouble))
    make_due()
    soonest = next_slot("character", clock.now() + services.FIRST_DELAY)
    assert sync_characters().failed == 1
    failing = row("Aelwyn")
    assert (failing.status, failing.failures, failing.level) == (Status.FAILING, 1, 80)
    assert words in failing.last_error
    latest = next_slot("character", clock.now() + services.FIRST_DELAY)
    assert soonest <= failing.next_try_at <= latest  # one slot, unless it begins meanwhile


@far_from_a_slot
def test_each_failure_in_a_row_makes_the_next_try_later(world: World) -> None:
    path = world.character("Aelwyn")
    world.instead(path, always(answering(403)))
    follow("Aelwyn")
    waits = []
    for _ in range(9):
        make_due()
        sync_characters()
        waits.append(row("Aelwyn").next_try_at - clock.now())
    assert waits[0] <= services.FIRST_DELAY + timedelta(hours=6)
    assert waits[-1] > timedelta(hours=23)
    assert waits[-1] <= timedelta(hours=30)
    assert row("Aelwyn").failures == 9


@pytest.mark.parametrize(
    ("trouble", "words"),
    [
        (nonsense, "no JSON"),
        (answering(200, {"name": "Aelwyn"}), "KeyError"),
        (answering(403, {"detail": "Forbidden"}), "Forbidden"),
    ],
    ids=["nonsense", "half", "forbidden"],
)
def test_one_bad_answer_stops_no_other(world: World, trouble: Any, words: str) -> None:
    for name in ("First", "Bad", "Last"):
        world.character(name)
    world.instead("/profile/wow/character/area-52/bad", always(trouble))
    follow("First", "Bad", "Last")
    outcome = sync_characters()
    assert (outcome.items, outcome.failed) == (2, 1)
    assert words in row("Bad").last_error


def test_what_the_database_refuses_is_that_rows_failure(world: World) -> None:
    world.character("First")
    world.character("Bad", level=2**62, achievement_points=2**62)
    world.documents["/profile/wow/character/area-52/bad"][0]["level"] = 2**63 - 1
    world.character("Last")
    follow("First", "Bad", "Gone", "Last")
    Character.objects.filter(name="Bad").update(achievement_points=None)
    outcome = sync_characters()
    if connection.vendor == "sqlite":  # it has no small integers
        assert (outcome.items, outcome.failed) == (3, 1)
    else:
        assert (outcome.items, outcome.failed) == (2, 2)
        assert "out of range" in row("Bad").last_error
    assert row("Gone").failures == 1
    assert row("Last").status == Status.OK
    assert Event.objects.filter(key=f"character-{row('Last').pk}").count() == 1


def test_a_bug_with_one_row_stops_no_other(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def profile_of(body: Any) -> Any:
        if body["name"] == "Bad":
            raise ZeroDivisionError("nobody thought of it")
        return read(body)

    read = answers.profile_of
    monkeypatch.setattr(characters, "profile_of", profile_of)
    world.character("Bad")
    world.character("Good")
    follow("Bad", "Good")
    assert sync_characters().items == 1
    assert row("Bad").last_error == "ZeroDivisionError: nobody thought of it"


def test_when_asked_to_wait_nobody_asks_until_then(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("First", "Last"):
        world.character(name)
    world.instead("/profile/wow/character/area-52/first", answering(429, Retry_After="7"))
    follow("First", "Last")
    slept: list[float] = []

    def sleep(run: Any, seconds: float) -> None:
        slept.append(seconds)
        Budget.objects.update(held_until=None)

    monkeypatch.setattr(sync.Run, "_sleep", sleep)
    outcome = sync_characters()
    assert (outcome.items, outcome.failed) == (2, 0)
    assert len(slept) == 1
    assert 6 < slept[0] <= 7
    assert row("First").failures == 0


def test_what_was_taken_before_a_hold_is_not_spent_during_it(world: World) -> None:
    first, last = follow("First", "Last")
    run = sync.Run(sync.CHARACTERS, Client(), {"us"}, [])
    run._take(sync.Fetched(first, None, Held(60), requests=1, failures=0, held=0))
    run._take(sync.Fetched(last, None, None, requests=1, failures=0, held=0))
    assert run.allowance == 0
    run._take(sync.Fetched(last, None, None, requests=1, failures=0, held=1))
    assert run.allowance == run.kind.most_requests - 1


def test_a_hold_longer_than_the_run_is_waited_for_by_the_next(world: World) -> None:
    path = world.character("Aelwyn")
    world.instead(path, always(answering(429, Retry_After="3000")))
    follow("Aelwyn")
    Job.objects.get_or_create(name="CHARACTER_SYNC")
    outcome = sync_characters()
    assert (outcome.items, outcome.failed, outcome.skipped) == (0, 0, 1)
    assert outcome.note == "The next run goes on."
    assert Job.objects.get(name="CHARACTER_SYNC").requested_at
    asked = len(world.asked)
    follow("Other")
    sync_characters()
    sync_guilds()
    assert len(world.asked) == asked


def test_a_job_that_was_paused_is_not_asked_to_go_on() -> None:
    Job.objects.update_or_create(name="CHARACTER_SYNC", defaults={"paused_at": timezone.now()})
    sync.go_on("CHARACTER_SYNC")
    assert Job.objects.get(name="CHARACTER_SYNC").requested_at is None


def test_who_is_always_asked_to_wait_fails_alone(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sync.Run, "_sleep", lambda *_: Budget.objects.update(held_until=None))
    world.character("Other")
    path = world.character("Aelwyn")
    world.instead(path, always(answering(429)))
    follow("Aelwyn", "Other")
    outcome = sync_characters()
    assert (outcome.items, outcome.failed) == (1, 1)
    assert world.counts[path] == sync.HOLDS + 1


def test_a_region_that_is_down_is_left_for_the_next_run(world: World, settings: Settings) -> None:
    settings.BATTLENET_CONCURRENCY = 1
    world.instead("*", always(answering(503)))
    world.instead("/token", answering(200, {"access_token": "x", "expires_in": 1_000}))
    follow(*(f"Name{n}" for n in range(60)))
    outcome = sync_characters()
    assert (outcome.failed, outcome.skipped) == (sync.DOWN_AFTER, 60 - sync.DOWN_AFTER)
    assert "US failed 20 times in a row" in outcome.note
    assert Character.objects.filter(status=Status.NEW).count() == 40


def test_thousands_are_done_in_batches(world: World, settings: Settings) -> None:
    """Of the same moment, and most of them unchanged: those cost no statement of their own."""
    settings.BATTLENET_REQUESTS_PER_HOUR = 10_000_000
    world.everybody = True
    count, new = 2_500, 250
    known = {"profile": MODIFIED}
    Character.objects.bulk_create(
        Character(
            name=f"N{n}",
            name_slug=f"n{n}",
            realm="R",
            realm_slug="r",
            region="us",
            next_try_at=timezone.now() - timedelta(seconds=n // 1_000),
            modified={} if n < new else known,
        )
        for n in range(count)
    )
    assert count_characters() == count
    began = clock.now()
    with CaptureQueriesContext(connection) as queries:
        assert sync_characters().items == count
    assert Character.objects.filter(status=Status.OK).count() == count
    assert Event.objects.filter(type="warcraft.character.synced").count() == new
    others = [q for q in queries if "warcraft_budget" not in q["sql"] and "POINT" not in q["sql"]]
    assert len(others) < 500
    assert 1 < world.most_in_flight <= settings.BATTLENET_CONCURRENCY
    assert not Character.objects.waiting(began).exists()  # by now the next slot may have come


def test_what_somebody_asks_for_goes_before_what_is_due(world: World, settings: Settings) -> None:
    settings.BATTLENET_CONCURRENCY = 1
    world.everybody = True
    follow("Due", "Asked")
    refresh(Character.objects.filter(name="Asked"))
    sync_characters()
    first = next(path for path in world.counts if path != "token")
    assert first.endswith("/asked")


def test_no_hour_and_no_second_has_more_requests_than_the_settings(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.BATTLENET_REQUESTS_PER_HOUR, settings.BATTLENET_REQUESTS_PER_SECOND = 32_400, 80
    now = timezone.now()
    taken: list[float] = []
    at = 0.0
    while at < 3_700:
        monkeypatch.setattr(clock, "now", lambda at=at: now + timedelta(seconds=at))
        granted, wait = budget.reserve()
        taken += [at] * granted
        at += 0 if granted else wait + 1e-5
    assert 30_000 < most_within(taken, 3_600) <= 32_400
    assert most_within(taken, 1) <= 80


def most_within(moments: list[float], length: float) -> int:
    first, most = 0, 0
    for last, moment in enumerate(moments):
        while moment - moments[first] >= length:
            first += 1
        most = max(most, last - first + 1)
    return most


def test_the_run_waits_for_the_budget(
    world: World, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.BATTLENET_REQUESTS_PER_HOUR = 200  # 20 at once
    world.everybody = True
    slept: list[float] = []

    def sleep(run: Any, seconds: float) -> None:
        slept.append(seconds)
        Budget.objects.all().delete()

    monkeypatch.setattr(sync.Run, "_sleep", sleep)
    follow(*(f"Name{n}" for n in range(10)))
    assert sync_characters().items == 10
    assert slept
    assert all(wait > 100 for wait in slept)


def test_an_answer_for_a_name_that_was_changed_meanwhile_is_dropped(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.character("Aelwyn")
    (character,) = follow("Aelwyn")
    still_those = services.still_those

    def change_meanwhile(*of: Any) -> Any:
        character.name = "Nela"
        readdress(character)
        return still_those(*of)

    monkeypatch.setattr(services, "still_those", change_meanwhile)
    sync_characters()
    renamed = Character.objects.get()
    assert (renamed.name, renamed.level, renamed.status) == ("Nela", None, Status.NEW)
    assert not Event.objects.exists()


@pytest.mark.parametrize(
    "trouble",
    [answering(304), answering(403), None],
    ids=["nothing new", "failed", "something new"],
)
@pytest.mark.parametrize("was_asked", [False, True])
def test_who_is_asked_for_while_it_is_read_is_asked_for_again(
    world: World, monkeypatch: pytest.MonkeyPatch, trouble: Any, was_asked: bool
) -> None:
    path = world.character("Aelwyn")
    world.character("Nela")
    follow("Aelwyn", "Nela")
    if was_asked:
        refresh(Character.objects.all())
    if trouble:
        world.instead(path, trouble)
        world.instead("/profile/wow/character/area-52/nela", trouble)
    still_those = services.still_those

    def ask_meanwhile(*of: Any) -> Any:
        refresh(Character.objects.filter(name="Aelwyn"))
        return still_those(*of)

    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(services, "still_those", ask_meanwhile)
        sync_characters()
    assert [character.name for character in Character.objects.asked()] == ["Aelwyn"]
    sync_characters()
    assert not Character.objects.asked().exists()
    assert "If-Modified-Since" not in world.asked[-1].headers
    assert row("Aelwyn").status == Status.OK


def test_who_is_read_twice_in_a_run_is_written_once(world: World) -> None:
    """It was merely due, and somebody asked for it before that was written."""
    path = world.guild()
    guild = Guild.objects.create(name="Knights of Dawn", realm="Area 52", region="us")
    with closing(Client()) as client:
        run = sync.Run(sync.GUILDS, client, {"us"}, [])
        due = run._fetch(guild, 0)
        refresh(Guild.objects.all())
        asked = run._fetch(Guild.objects.get(), 0)
    assert world.counts[path] == 2
    for fetched in (due, asked):
        run._take(fetched)
    run._write()
    assert not Guild.objects.asked().exists()
    assert Event.objects.filter(type="warcraft.guild.synced").count() == 1


def test_who_lost_the_lease_writes_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.character("Aelwyn")
    follow("Aelwyn")
    Job.objects.get_or_create(name="CHARACTER_SYNC")
    job = periodic_jobs["CHARACTER_SYNC"]
    lease = claim(job)
    assert lease

    def write_all(*arguments: Any) -> None:
        raise AssertionError("it was written")

    Job.objects.filter(name=job.name).update(token=lease.token + 1)
    monkeypatch.setattr(sync.Run, "_write_all", write_all)
    execute(job, lease)
    assert row("Aelwyn").status == Status.NEW
    assert not Event.objects.exists()


def test_a_run_records_what_it_did(world: World) -> None:
    world.character("Aelwyn")
    follow("Aelwyn", "Nobody")
    Job.objects.get_or_create(name="CHARACTER_SYNC")
    job = periodic_jobs["CHARACTER_SYNC"]
    lease = claim(job)
    assert lease
    assert execute(job, lease).status == RunStatus.SUCCEEDED
    run = Run.objects.get(job="CHARACTER_SYNC")
    assert (run.items, run.failed_items) == (1, 1)


def test_nothing_due_is_nothing_asked(world: World) -> None:
    assert sync_characters() == sync_guilds() == Outcome()
    assert world.counts["token"] == 0
    assert not Guild.objects.exists()

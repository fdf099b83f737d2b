"""What keys are used for, from the answer to the row: nothing lost, nothing twice."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import time_machine
from django.contrib.auth.models import User
from django.db import OperationalError, connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from redis import RedisError

from jobs import clock
from jobs.redis import connect
from jobs.registry import periodic_jobs
from operations.keys import services, usage
from operations.keys.figures import days_of
from operations.keys.models import ApiKey, ApiKeyUsage, UsageBatch
from operations.keys.usage import LATE, LIVE, NAMES, Recorder, behind, recorder, sync
from tests import servers
from tests.operations.keys.conftest import MESSAGES
from tests.waiting import wait_until


class Killed(BaseException):
    """The process ends here, whatever would have come."""


@pytest.fixture(params=["rows", "Redis"])
def place(request: pytest.FixtureRequest, settings: Any) -> Iterator[str]:
    if request.param == "Redis":
        settings.REDIS_URL = request.getfixturevalue("redis_url")
        connect(settings.REDIS_URL).flushdb()
    yield request.param
    settings.REDIS_URL = ""


@pytest.fixture
def redis(settings: Any, redis_url: str) -> Any:
    settings.REDIS_URL = redis_url
    client = connect(redis_url)
    client.flushdb()
    return client


def counted(key: ApiKey) -> tuple[int, int, int]:
    key.refresh_from_db()
    by_day = [sum(getattr(day, name) for day in key.usage.all()) for name in usage.OUTCOMES]
    assert by_day == [getattr(key, name) for name in usage.OUTCOMES]
    return key.succeeded, key.failed_4xx, key.failed_5xx


def carry() -> int:
    recorder.to_rows()
    return sync()


def use(key: ApiKey, *statuses: int) -> None:
    for status in statuses:
        recorder.count(key.pk, status)


def test_each_answer_is_counted_by_its_status(
    place: str, key: ApiKey, program: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("broken")

    began = timezone.now().replace(microsecond=0)
    assert program.get(MESSAGES).status_code == 200
    assert program.get("/api/admin/jobs").status_code == 403  # its owner may not
    assert program.post("/api/user/messages/read", "{", "application/json").status_code == 400
    monkeypatch.setattr("connections.api.ConnectedView.get", broken)
    program.raise_request_exception = False
    assert program.get("/api/user/sse/connected/1").status_code == 500
    carry()
    assert counted(key) == (1, 2, 1)
    assert key.total == 4
    assert key.last_used_at is not None
    assert began <= key.last_used_at <= timezone.now()


def test_counts_of_many_keys_and_days_are_added_up(place: str, owner: User, key: ApiKey) -> None:
    other, _ = services.make(owner, "Other", ["read"])
    with time_machine.travel(datetime(2030, 3, 1, 23, 59, 59, tzinfo=UTC), tick=False):
        use(key, 200, 201, 404)
        use(other, 503)
    with time_machine.travel(datetime(2030, 3, 2, 0, 0, 1, tzinfo=UTC), tick=False):
        use(key, 302, 499)
    carry()
    use(key, 200)
    carry()
    assert counted(key) == (4, 2, 0)
    assert counted(other) == (0, 0, 1)
    assert key.last_used_at == datetime(2030, 3, 2, 0, 0, 1, tzinfo=UTC)  # the newer one wins
    days = ApiKeyUsage.objects.filter(key=key).order_by("day").values_list("day", "succeeded")
    named = {str(day): count for day, count in days}
    assert named["2030-03-01"] == 2
    assert named["2030-03-02"] == 1


STEPS = ["fetch rows", "forget batch", "add", "applied"]


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("after", [False, True])
def test_killed_at_any_step_the_job_loses_and_repeats_nothing(
    redis: Any, key: ApiKey, step: str, after: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(key, 200, 404)
    with monkeypatch.context() as patch:
        die(patch, step, after=after)
        with pytest.raises(Killed):
            sync()
    use(key, 200)  # meanwhile
    sync()
    assert counted(key) == (2, 1, 0)
    sync()
    assert counted(key) == (2, 1, 0)
    assert not redis.exists(LIVE, NAMES)


def die(patch: pytest.MonkeyPatch, step: str, *, after: bool) -> None:
    """At the end of a step that is done, or at its beginning."""
    of: Any
    of, name = {
        "fetch rows": (type(UsageBatch.objects.all()), "written"),
        "forget batch": (type(connect("redis://").pipeline()), "execute"),
        "add": (usage, "add"),
        "applied": (usage, "apply"),
    }[step]
    do = getattr(of, name)

    def dying(*args: Any, **kwargs: Any) -> Any:
        if after:
            do(*args, **kwargs)
        raise Killed

    patch.setattr(of, name, dying)


def test_an_answer_of_redis_that_is_lost_counts_once(
    redis: Any, key: ApiKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = usage._run

    def lost(text: str, *args: Any) -> None:
        run(text, *args)
        raise RedisError("no answer")

    with monkeypatch.context() as patch:
        patch.setattr(usage, "_run", lost)
        use(key, 200)
    assert recorder.doubtful
    use(key, 200)
    assert not recorder.doubtful
    carry()
    assert counted(key) == (2, 0, 0)


def test_an_answer_of_the_database_that_is_lost_counts_once(
    key: ApiKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = type(UsageBatch.objects.all()).written

    def lost(self: Any, batches: Any) -> None:
        written(self, batches)
        raise OperationalError("the connection broke in the commit")

    use(key, 200)
    with monkeypatch.context() as patch:
        patch.setattr(type(UsageBatch.objects.all()), "written", lost)
        with pytest.raises(OperationalError):
            recorder.to_rows()
    use(key, 404)
    sync()
    assert counted(key) == (1, 0, 0)
    recorder.to_rows()  # the same row, which was applied meanwhile
    carry()
    assert counted(key) == (1, 1, 0)


def test_a_renaming_that_comes_twice_overwrites_nothing(redis: Any, key: ApiKey) -> None:
    use(key, 200)
    name = "00000000-0000-4000-8000-000000000000"
    assert usage._run(usage.RENAME, [LIVE, NAMES], [usage.BATCH, name])
    use(key, 200)
    assert usage._run(usage.RENAME, [LIVE, NAMES], [usage.BATCH, name])
    sync()
    sync()
    assert counted(key) == (2, 0, 0)


def test_while_redis_is_away_uses_go_to_rows(
    redis_server: servers.Redis, key: ApiKey, settings: Any
) -> None:
    settings.REDIS_URL = redis_server.start()
    use(key, 200)
    assert sync() == 1
    redis_server.stop()
    use(key, 200, 200)  # the first of them is doubtful from now on
    sync()
    redis_server.start()
    wait_until(recorder.to_redis)
    carry()
    assert counted(key) == (3, 0, 0)


def test_a_key_that_was_deleted_meanwhile_stays_deleted(place: str, key: ApiKey) -> None:
    other, _ = services.make(key.owner, "Other", ["read"])
    use(key, 200)
    use(other, 200)
    services.delete(key)
    carry()
    assert list(ApiKey.objects.all()) == [other]
    assert counted(other) == (1, 0, 0)
    assert list(ApiKeyUsage.objects.values_list("key_id", flat=True)) == [other.pk]


def test_2500_keys_are_brought_to_rows_by_few_statements(owner: User) -> None:
    keys = ApiKey.objects.bulk_create(
        [ApiKey(key_id=f"ak_{n:016x}", name="x", owner=owner, scopes=["read"]) for n in range(2500)]
    )
    for _ in range(2):
        for key in keys:
            use(key, 200)
        recorder.to_rows()
        with CaptureQueriesContext(connection) as queries:
            assert sync() == 1
        assert len(queries) < 80
    assert set(ApiKey.objects.values_list("succeeded", flat=True)) == {2}
    assert set(ApiKeyUsage.objects.values_list("succeeded", flat=True)) == {2}


def test_more_batches_than_one_transaction_takes_are_all_applied(key: ApiKey) -> None:
    for _ in range(450):
        use(key, 200)
        recorder.to_rows()
    assert sync() == 450
    assert counted(key) == (450, 0, 0)


def test_batches_are_forgotten_after_a_while(key: ApiKey) -> None:
    use(key, 200)
    carry()
    assert UsageBatch.objects.get().counts == {}
    with time_machine.travel(timezone.now() + timedelta(hours=2)):
        sync()
    assert not UsageBatch.objects.exists()


def test_a_batch_that_redis_could_not_forget_counts_once_however_long_redis_is_away(
    redis: Any, key: ApiKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: Any, **__: Any) -> None:
        raise RedisError("away")

    use(key, 200)
    with monkeypatch.context() as patch:
        patch.setattr(type(redis.pipeline()), "execute", away)  # it was written, and is still there
        sync()
        with time_machine.travel(timezone.now() + timedelta(hours=2)):
            patch.setattr(usage, "_run", away)
            sync()
    sync()
    assert counted(key) == (1, 0, 0)
    assert not redis.exists(NAMES)


def test_only_what_waits_for_long_is_behind(key: ApiKey) -> None:
    use(key, 200)
    recorder.to_rows()
    assert behind() == 0
    UsageBatch.objects.update(created_at=clock.now() - LATE - timedelta(minutes=1))
    assert behind() == 1
    assert periodic_jobs["API_KEY_STATS_SYNC"].every == "5m"
    sync()
    assert behind() == 0


@pytest.mark.django_db(transaction=True)
def test_a_thread_writes_rows_while_there_is_something_to_write(key: ApiKey) -> None:
    mine = Recorder()
    for _ in range(3):
        mine.count(key.pk, 200)
    wait_until(lambda: UsageBatch.objects.exists() and not mine.writer)
    mine.count(key.pk, 500)
    wait_until(lambda: not mine.waiting and not mine.writer)
    sync()
    assert counted(key) == (3, 0, 1)


def test_what_waits_is_written_when_the_process_ends(place: str, key: ApiKey) -> None:
    use(key, 200)
    recorder.close()
    sync()
    assert counted(key) == (1, 0, 0)


def test_what_redis_may_have_lost_is_told_when_the_process_ends(
    redis: Any, key: ApiKey, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def away(*_: Any) -> None:
        raise RedisError("away")

    mine = Recorder()
    mine.in_background = False
    with monkeypatch.context() as patch:
        patch.setattr(usage, "_run", away)
        mine.count(key.pk, 200)
        mine.close()
    assert "lost, unless Redis has them" in caplog.text


def test_there_is_a_day_also_where_there_was_no_use(key: ApiKey) -> None:
    use(key, 200)
    carry()
    with CaptureQueriesContext(connection) as queries:
        days = days_of([key])[key.pk]
    assert len(queries) <= 2
    assert len(days) == 30
    assert [day.total for day in days] == [0] * 29 + [1]
    assert days[-1].day == timezone.now().astimezone(UTC).date()

"""How often a key may ask; the same with Redis and without."""

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from django.conf import settings as usual_settings
from django.contrib.auth.models import User
from django.test import Client, override_settings

from jobs.redis import connect
from operations.keys import limits
from operations.keys.checking import Holder
from operations.keys.limits import Local, Verdict, take
from operations.keys.models import ApiKey
from operations.keys.usage import recorder
from tests import servers
from tests.operations.keys.conftest import MESSAGES, code_of
from tests.racing import race
from tests.waiting import wait_until


def holder(pk: int = 1, minute: int | None = 3, hour: int = 0, day: int = 0) -> Holder:
    return Holder(pk, "ak_0", frozenset(), (minute, hour, day), User())


@pytest.fixture(params=["local", "Redis"])
def place(request: pytest.FixtureRequest) -> Iterator[str]:
    url = request.getfixturevalue("redis_url") if request.param == "Redis" else ""
    with override_settings(REDIS_URL=url):
        if url:
            connect(url).flushdb()
        yield request.param


def test_no_more_than_the_limit_is_let_through(place: str) -> None:
    verdicts = [take(holder()) for _ in range(5)]
    assert [verdict.allowed for verdict in verdicts] == [True, True, True, False, False]
    assert [verdict.windows[0].remaining for verdict in verdicts] == [2, 1, 0, 0, 0]
    assert 0 < verdicts[-1].retry_after <= 60
    assert take(holder(pk=2)).allowed


def test_each_window_counts_by_itself_and_the_longest_wait_is_told(place: str) -> None:
    one = holder(minute=100, hour=2, day=5)
    assert [take(one).allowed for _ in range(4)] == [True, True, False, False]
    refused = take(one)
    assert refused.reached.name == "hour"
    assert 3_500 < refused.retry_after <= 3_600
    used = {window.name: window.used for window in refused.windows}
    assert used == {"minute": 2, "hour": 2, "day": 2}  # what was refused took nothing


def test_many_at_once_get_no_more_than_the_limit(place: str) -> None:
    one = holder(minute=10)
    verdicts = race(*[lambda: [take(one).allowed for _ in range(5)]] * 6)
    assert Counter(allowed for some in verdicts for allowed in some) == {True: 10, False: 20}


def test_a_window_begins_anew(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(limits.WINDOWS, "minute", 1)
    one = holder(minute=1)

    def refused() -> Verdict | None:
        verdict = take(one)
        return None if verdict.allowed else verdict

    verdict = wait_until(refused)
    assert verdict
    assert verdict.retry_after == 1
    wait_until(lambda: take(one).allowed)


def test_0_is_no_limit_and_nothing_is_the_setting(place: str, settings: Any) -> None:
    settings.API_KEY_LIMIT_MINUTE = 2
    assert [take(holder(minute=None)).allowed for _ in range(3)] == [True, True, False]
    free = [take(holder(pk=2, minute=0)) for _ in range(100)]
    assert all(verdict.allowed for verdict in free)
    assert free[0].headers() == {}


def test_the_headers_are_those_of_the_draft(key: ApiKey, program: Client) -> None:
    ApiKey.objects.update(limit_minute=2, limit_day=0)
    answers = [program.get(MESSAGES) for _ in range(3)]
    policy = '"minute";q=2;w=60, "hour";q=1000;w=3600'
    assert [answer["RateLimit-Policy"] for answer in answers] == [policy] * 3
    pattern = r'"minute";r=(\d+);t=(\d+), "hour";r=(\d+);t=(\d+)'
    left = [re.fullmatch(pattern, answer["RateLimit"]) for answer in answers]
    assert [(found[1], found[3]) for found in left if found] == [
        ("1", "999"),
        ("0", "998"),
        ("0", "998"),
    ]
    assert code_of(answers[2]) == (429, "limit_reached")
    assert 0 < int(answers[2]["Retry-After"]) <= 60
    assert answers[2].json()["path"] == MESSAGES
    outcomes = {name.partition(":")[2].partition(":")[2]: n for name, n in recorder.waiting.items()}
    assert (outcomes["succeeded"], outcomes["failed_4xx"]) == (2, 1)


def test_who_has_no_key_has_no_limit(client: Client, owner: User) -> None:
    client.force_login(owner)
    assert "RateLimit" not in client.get(MESSAGES)


def test_while_redis_is_away_the_setting_says_what_happens(
    redis_server: servers.Redis, key: ApiKey, program: Client, settings: Any
) -> None:
    settings.REDIS_URL = redis_server.start()
    ApiKey.objects.update(limit_minute=2)
    assert [program.get(MESSAGES).status_code for _ in range(3)] == [200, 200, 429]
    redis_server.stop()
    # Those of this process, which has counted nothing so far.
    assert [program.get(MESSAGES).status_code for _ in range(3)] == [200, 200, 429]
    settings.API_KEY_LIMITS_WITHOUT_REDIS = "refuse"
    refused = program.get(MESSAGES)
    assert code_of(refused) == (503, "limits_unavailable")
    assert refused["Retry-After"] == "5"


def test_a_process_forgets_windows_that_are_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MOST_LOCAL", 10)
    monkeypatch.setitem(limits.WINDOWS, "minute", 0)
    local: Any = Local()
    for pk in range(100):
        local.take(pk, {"minute": 5})
    assert len(local.windows) <= 12


def test_many_windows_that_go_on_are_not_looked_through_by_each_request(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "MOST_LOCAL", 10)
    local: Any = Local()
    for pk in range(100):
        local.take(pk, {"day": 5})
    assert len(local.windows) == 100
    assert local.most >= 100


def test_the_settings_have_the_limits_of_the_documents() -> None:
    usual = (
        usual_settings.API_KEY_LIMIT_MINUTE,
        usual_settings.API_KEY_LIMIT_HOUR,
        usual_settings.API_KEY_LIMIT_DAY,
    )
    assert usual == (60, 1_000, 10_000)

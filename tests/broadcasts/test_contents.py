"""Rendered content is cached, and nothing is shown because it is cached."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.core.cache import cache, caches
from django.test import Client
from redis import Redis

from broadcasts import contents
from broadcasts.contents import outcomes, rendered
from broadcasts.markdown import render
from broadcasts.models import Broadcast
from broadcasts.services import cancel, expire
from jobs import redis as redis_client
from tests.factories import ActiveFactory, UserFactory
from tests.jobs.test_redis import Silent
from tests.jobs.test_redis import silent as silent

pytestmark = pytest.mark.django_db

URL = "/api/user/messages"


@pytest.fixture(params=["memory", "redis"])
def shared(request: pytest.FixtureRequest, settings: Any) -> Iterator[None]:
    if request.param == "redis":
        use(settings, request.getfixturevalue("redis_url"))
    cache.clear()
    yield
    cache.clear()
    leave()


def use(settings: Any, url: str) -> None:
    redis_client._breakers.clear()
    settings.CACHES = {
        "default": {
            "BACKEND": "django_redis.cache.RedisCache",
            "LOCATION": url,
            "OPTIONS": {
                "IGNORE_EXCEPTIONS": True,
                "CONNECTION_POOL_KWARGS": redis_client.options(url),
            },
        }
    }


def leave() -> None:
    """Close what is connected."""
    client: Any = getattr(caches["default"], "client", None)
    if client:
        client.get_client().connection_pool.disconnect()


@pytest.fixture
def reader(client: Client) -> Client:
    client.force_login(UserFactory.create())
    return client


def inbox(reader: Client) -> list[tuple[str, str]]:
    response = reader.get(URL)
    assert response.status_code == 200
    return [(message["title"], message["html"]) for message in response.json()["results"]]


def asked() -> tuple[int, int]:
    return outcomes["hit"], outcomes["miss"]


@pytest.mark.usefixtures("shared")
def test_what_was_rendered_once_is_rendered_no_more(
    reader: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    ActiveFactory.create(title="One", content="*one*")
    before = asked()
    first = inbox(reader)
    monkeypatch.setattr(contents, "render", None)
    assert inbox(reader) == first == [("One", "<p><em>one</em></p>\n")]
    assert asked() == (before[0] + 1, before[1] + 1)


@pytest.mark.usefixtures("shared")
@pytest.mark.parametrize("end", [cancel, expire])
def test_what_is_over_is_evicted(
    reader: Client, end: Any, django_capture_on_commit_callbacks: Any
) -> None:
    broadcast = ActiveFactory.create(content="*one*")
    inbox(reader)
    assert cache.get(contents._key("*one*"))
    with django_capture_on_commit_callbacks(execute=True):
        end(broadcast)
    assert cache.get(contents._key("*one*")) is None
    assert inbox(reader) == []


@pytest.mark.usefixtures("shared")
@pytest.mark.parametrize("end", [cancel, expire])
def test_what_is_over_is_not_shown_although_its_eviction_was_lost(
    reader: Client, end: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    broadcast = ActiveFactory.create(content="*one*")
    inbox(reader)
    end(broadcast)  # the commit, and with it the eviction, never comes in this test
    assert cache.get(contents._key("*one*"))
    assert inbox(reader) == []


@pytest.mark.usefixtures("shared")
def test_another_content_is_another_entry(reader: Client) -> None:
    broadcast = ActiveFactory.create(title="One", content="*one*")
    inbox(reader)
    Broadcast.objects.filter(pk=broadcast.pk).update(content="*two*")  # not even `updated_at`
    assert inbox(reader) == [("One", "<p><em>two</em></p>\n")]


@pytest.mark.usefixtures("shared")
def test_who_renders_otherwise_reads_no_entry_of_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert rendered(["*one*"]) == {"*one*": render("*one*")}
    monkeypatch.setattr(contents, "RENDERER", b"another version")
    monkeypatch.setattr(contents, "render", lambda content: "otherwise")
    assert rendered(["*one*"]) == {"*one*": "otherwise"}


@pytest.mark.usefixtures("shared")
def test_a_page_is_one_question(reader: Client) -> None:
    for number in range(3):
        ActiveFactory.create(content=f"*{number}*")
    assert rendered(["", "*1*", "*1*"]) == {"": "", "*1*": "<p><em>1</em></p>\n"}
    assert len(inbox(reader)) == 3


def test_the_inbox_is_right_and_does_not_wait_while_redis_is_flushed_or_gone(
    reader: Client,
    redis_url: str,
    free_port: int,
    silent: Silent,
    settings: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ActiveFactory.create(title="One", content="*one*")
    right = inbox(reader)
    with Redis.from_url(redis_url) as redis:
        use(settings, redis_url)
        assert inbox(reader) == right
        redis.flushall()
        assert inbox(reader) == right
        leave()
        use(settings, f"redis://127.0.0.1:{free_port}")
        assert inbox(reader) == right
        monkeypatch.setattr(redis_client, "TIMEOUT", 0.5)
        use(settings, silent.url)
        assert inbox(reader) == right  # this one waits for half a second
        assert all(inbox(reader) == right for _ in range(5))
        assert silent.asked() == 1


def test_sessions_are_not_in_the_cache(settings: Any) -> None:
    assert settings.SESSION_ENGINE == "django.contrib.sessions.backends.db"

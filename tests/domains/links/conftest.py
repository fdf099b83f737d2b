from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.core.cache import cache
from django.test import Client

from domains.links import clicks, services
from domains.links.clicks import Collector
from domains.links.models import Link

CHROME = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/125.0.0.0 Safari/537.36"
)
IPHONE = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 "
    "(KHTML, like Gecko) Version/17.5 Mobile/15E148 Safari/604.1"
)
BOT = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"

Follow = Callable[..., Any]


@pytest.fixture(autouse=True)
def empty_cache() -> Iterator[None]:
    cache.clear()
    yield
    cache.clear()


@pytest.fixture(autouse=True)
def collector(monkeypatch: pytest.MonkeyPatch) -> Collector:
    """Of the test's own, without its thread, which would not see what the test has written."""
    own = Collector()
    monkeypatch.setattr(own, "_start", lambda: None)
    monkeypatch.setattr("domains.links.views.collector", own)
    monkeypatch.setattr(clicks, "collector", own)
    return own


@pytest.fixture
def follow(client: Client) -> Follow:
    """A click, as a browser makes it."""

    def get(name: str | Link, user_agent: str = CHROME, **headers: str) -> Any:
        path = f"/s/{name.name if isinstance(name, Link) else name}"
        return client.get(path, headers={"user-agent": user_agent} | headers)

    return get


def link(url: str = "https://example.org/page", **fields: Any) -> Link:
    return services.create(url, **fields)

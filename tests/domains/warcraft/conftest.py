from collections.abc import Iterator

import pytest
from django.core.cache import cache
from pytest_django import Settings

from domains.warcraft import battlenet
from tests.domains.warcraft.battlenet import Server, World, serving


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def server(world: World) -> Iterator[Server]:
    with serving(world) as server:
        yield server


@pytest.fixture(autouse=True)
def credentials(server: Server, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything is asked of the local server; nobody waits for a back-off."""
    settings.BATTLENET_CLIENT_ID = "client"
    settings.BATTLENET_CLIENT_SECRET = "secret"
    settings.BATTLENET_TOKEN_URL = f"{server.url}/token"
    settings.BATTLENET_API_URL = server.url
    settings.BATTLENET_CN_TOKEN_URL = f"{server.url}/token"
    settings.BATTLENET_CN_API_URL = server.url
    settings.BATTLENET_REQUESTS_PER_SECOND = 100_000
    monkeypatch.setattr(battlenet, "BACKOFF", 0.001)
    cache.clear()

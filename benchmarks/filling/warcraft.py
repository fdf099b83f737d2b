"""Rows that CHARACTER_SYNC and GUILD_SYNC have to ask for, and a Battle.net of this machine to ask.

It answers the documented bodies at once, from a process of its own, and the budget of requests is
lifted: what is measured is this side alone (client, rows, events) beside a server that costs CPU
of the same machine. Against the real one both jobs are bound by BATTLENET_REQUESTS_PER_HOUR.

Nine in ten are unchanged (304), as after the first sync; of the tenth everything is new.
"""

import atexit
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.utils import timezone

from domains.warcraft import sync
from domains.warcraft.models import Character, Guild, Tracked
from tests.domains.warcraft.battlenet import MODIFIED

BATCH = 5_000
CHANGED = 10  # one in so many has something new


def fill_characters(count: int) -> None:
    _fill(Character, count, {"profile": MODIFIED})


def fill_guilds(count: int) -> None:
    _fill(Guild, count, {"guild": MODIFIED, "roster": MODIFIED})


def _fill(model: type[Tracked], count: int, known: dict[str, str]) -> None:
    now = timezone.now()
    objects: Any = model._default_manager
    for start in range(0, count, BATCH):
        objects.bulk_create(
            model(
                name=f"N{number}",
                name_slug=f"n{number}",
                realm="Area 52",
                realm_slug="area-52",
                region="us",
                next_try_at=now,
                modified=known if number % CHANGED else {},
            )
            for number in range(start, min(start + BATCH, count))
        )


def serve() -> None:
    """A server that ends with this process, and the settings that lead to it."""
    command = [sys.executable, "-m", "tests.domains.warcraft.battlenet"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    atexit.register(server.terminate)
    assert server.stdout
    url = f"http://127.0.0.1:{server.stdout.readline().strip()}"
    settings.BATTLENET_CLIENT_ID, settings.BATTLENET_CLIENT_SECRET = "client", "secret"
    settings.BATTLENET_TOKEN_URL, settings.BATTLENET_API_URL = f"{url}/token", url
    settings.BATTLENET_REQUESTS_PER_HOUR = settings.BATTLENET_REQUESTS_PER_SECOND = 10**9
    sync.RUN_FOR = 24 * 3_600.0  # in one run


FILL: dict[str, Callable[[int], None]] = {
    "CHARACTER_SYNC": fill_characters,
    "GUILD_SYNC": fill_guilds,
}
READY: dict[str, Callable[[], None]] = dict.fromkeys(FILL, serve)
"""What the process that runs the job calls first."""

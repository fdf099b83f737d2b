"""API keys checked by one thread, and their uses counted.

Peer, in the same run and taking turns: djangorestframework-api-key, by the permission that its
documentation names (`HasAPIKey`). It knows no owner, no scopes and no limits; so what is compared
is the same for both: a request with a key comes in, and is let through or not.
"""

import secrets
import statistics
from collections.abc import Callable
from contextlib import suppress
from importlib.util import find_spec

from django.conf import settings
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import connection
from django.test import Client, RequestFactory, override_settings
from rest_framework.request import Request

from benchmarks.reports import Report, seconds
from operations.keys import limits, usage
from operations.keys.checking import Refused, check
from operations.keys.models import ApiKey
from operations.keys.secrets import digest_of
from operations.keys.services import make
from operations.keys.usage import recorder, sync

ROUNDS = 9  # of both, in turns: the machine is not equally busy all the time
OTHERS = 1_000  # keys in the table
PEER = "rest_framework_api_key"
UNLIMITED = {"limit_minute": 0, "limit_hour": 0, "limit_day": 0}
LARGE = 10**9


def run(*, quick: bool) -> Report:
    count = 300 if quick else 1_500
    recorder.in_background = False
    owner = User.objects.create_user("owner")
    fill(owner)
    key, written = make(owner, "Shop", ["stream", "read"], **UNLIMITED)
    _, limited = make(
        owner, "Till", ["read"], limit_minute=LARGE, limit_hour=LARGE, limit_day=LARGE
    )
    candidates: dict[str, Callable[[], object]] = {
        "checks_per_s": lambda: check(written),
        "wrong_secret_per_s": lambda: refuse(written[:-4] + "0000"),
        "with_limits_per_s": lambda: limits.take(check(limited)),
        "orm_get_per_s": lambda: ApiKey.objects.select_related("owner").get(key_id=key.key_id),
    }
    skipped = []
    if find_spec(PEER):
        candidates["peer_checks_per_s"] = peer()
    else:
        skipped.append("djangorestframework-api-key: make peers")
    rates = in_turns(candidates, count)
    figures = {name: round(rate) for name, rate in rates.items()}
    ratios = {}
    if "peer_checks_per_s" in rates:
        ratios["checks_to_peer"] = round(rates["checks_per_s"] / rates["peer_checks_per_s"], 2)
    figures["check_queries"] = 1
    figures |= counting(key, count * 10)
    figures |= requests(written, count // 3)
    return Report("keys", figures, ratios, skipped)


def fill(owner: User) -> None:
    ApiKey.objects.bulk_create(
        ApiKey(
            key_id=f"ak_{secrets.token_hex(8)}",
            name=f"Key {n}",
            owner=owner,
            scopes=["read"],
            digest=digest_of(str(n)),
        )
        for n in range(OTHERS)
    )


def refuse(written: str) -> None:
    with suppress(Refused):
        check(written)


def peer() -> Callable[[], bool]:
    """Its permission, asked as DRF asks it."""
    apps = override_settings(INSTALLED_APPS=[*settings.INSTALLED_APPS, PEER])
    apps.enable()
    call_command("migrate", PEER, verbosity=0)
    from rest_framework_api_key.models import APIKey
    from rest_framework_api_key.permissions import HasAPIKey

    APIKey.objects.bulk_create(
        APIKey(id=f"{n}", prefix=f"{n:08}", hashed_key=f"sha512$${n}", name=f"{n}")
        for n in range(OTHERS)
    )
    _, written = APIKey.objects.create_key(name="Shop")
    headers = {"Authorization": f"Api-Key {written}"}
    request = Request(RequestFactory().get("/", headers=headers))
    permission = HasAPIKey()
    assert permission.has_permission(request, None)
    return lambda: permission.has_permission(request, None)


def in_turns(candidates: dict[str, Callable[[], object]], count: int) -> dict[str, float]:
    """Calls a second: the median of several rounds."""
    rates: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(ROUNDS):
        for name, candidate in candidates.items():
            rates[name].append(count / seconds(lambda: repeat(candidate, count)))  # noqa: B023
    return {name: statistics.median(several) for name, several in rates.items()}


def repeat(action: Callable[[], object], count: int) -> None:
    for _ in range(count):
        action()


def counting(key: ApiKey, count: int) -> dict[str, int]:
    """Uses counted a second, and as many brought to their rows."""
    taken = seconds(lambda: repeat(lambda: recorder.count(key.pk, 200), count))
    recorder.to_rows()
    carried = seconds(sync)
    key.refresh_from_db()
    assert key.succeeded == count
    place = "redis" if settings.REDIS_URL else "memory"
    return {f"counted_in_{place}_per_s": round(count / taken), "sync_ms": round(carried * 1_000)}


def requests(written: str, count: int) -> dict[str, int]:
    """Whole requests, through all of Django and DRF: with a key, and with a session."""
    host = settings.ALLOWED_HOSTS[0]
    url = "/api/user/sse/connected/owner"
    with_key = Client(headers={"host": host, "x-api-key": written})
    signed_in = Client(headers={"host": host})
    signed_in.force_login(User.objects.get(username="owner"))
    assert with_key.get(url).status_code == signed_in.get(url).status_code == 200
    rates = in_turns(
        {
            "requests_with_key_per_s": lambda: with_key.get(url),
            "requests_with_session_per_s": lambda: signed_in.get(url),
        },
        max(count // ROUNDS, 10),
    )
    recorder.to_rows()
    assert usage.sync() >= 1
    connection.close()
    return {name: round(rate) for name, rate in rates.items()}

"""The client of Battle.net: https://develop.battle.net/documentation/world-of-warcraft."""

import hashlib
import random
import threading
import time
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote

import httpx
from django.conf import settings
from django.core.cache import cache
from django.utils import timezone
from django.utils.translation import gettext as _

from domains.warcraft.models import Region

TOKEN_TIMEOUT = 10.0  # seconds
EARLY = 300  # seconds before a token's end at which another is fetched
ATTEMPTS = 3  # of one request, where Battle.net fails or does not answer
BACKOFF = 0.5  # seconds before the second attempt; doubled for each one after it
LONGEST_HOLD = 3_600.0  # seconds
DEFAULT_HOLD = 10.0  # seconds, where 429 says nothing of how long
RENEWAL_POLL = 0.1  # seconds


class BattleNetError(Exception):
    """The message is for operators."""


class NoCredentials(BattleNetError):
    pass


class CredentialsRefused(BattleNetError):
    pass


class Unavailable(BattleNetError):
    """No answer, or a failure on its side."""


class Refused(BattleNetError):
    """It answers, and no attempt will change that: 403, or what is none of its documents."""


class NotFound(BattleNetError):
    pass


class Held(BattleNetError):
    """It asks to wait (429)."""

    def __init__(self, seconds: float) -> None:
        super().__init__(_("Battle.net asks to wait %(seconds)d s.") % {"seconds": seconds})
        self.seconds = seconds


@dataclass(frozen=True)
class Document:
    body: dict[str, Any] | None
    """None: it is as it was (304)."""
    modified: str = ""


@dataclass(frozen=True)
class Account:
    """Who asks: China has an authority of its own."""

    token_url: str
    client_id: str
    client_secret: str
    variables: str
    """That hold the credentials."""

    @property
    def cache_key(self) -> str:
        known_by = f"{self.token_url} {self.client_id} {self.client_secret}"
        return f"battlenet-token:{hashlib.sha256(known_by.encode()).hexdigest()[:24]}"


def account_of(region: str) -> Account | None:
    """None: no credentials are set for it."""
    prefix = "BATTLENET_CN_" if region == Region.CN else "BATTLENET_"
    account = Account(
        getattr(settings, f"{prefix}TOKEN_URL"),
        getattr(settings, f"{prefix}CLIENT_ID"),
        getattr(settings, f"{prefix}CLIENT_SECRET"),
        f"{prefix}CLIENT_ID, {prefix}CLIENT_SECRET",
    )
    return account if account.client_id and account.client_secret else None


def base_url(region: str) -> str:
    if region == Region.CN:
        return str(settings.BATTLENET_CN_API_URL)
    return str(settings.BATTLENET_API_URL).format(region=region)


def locale(region: str) -> str:
    return "zh_CN" if region == Region.CN else str(settings.BATTLENET_LOCALE)


@dataclass
class Client:
    """Used by several threads at once; none of them touches the database."""

    stopping: threading.Event = field(default_factory=threading.Event)
    """Ends every wait: what is waited for fails."""

    def __post_init__(self) -> None:
        self.renewing = threading.Lock()
        self.tokens: dict[str, tuple[str, float]] = {}  # should the cache be away: with their ends
        # Also of a proxy: the environment's, as every client's.
        self.http = httpx.Client(timeout=settings.BATTLENET_TIMEOUT)

    def close(self) -> None:
        self.stopping.set()
        self.http.close()

    # Tokens

    def token(self, region: str) -> str:
        """Cached until shortly before its end; of all who miss it, one fetches another.

        Raises `NoCredentials`, `CredentialsRefused` and `Unavailable`.
        """
        account = account_of(region)
        if account is None:
            raise NoCredentials(_("No credentials for the region %(region)s.") % {"region": region})
        return self._known(account) or self._renew(account)

    def forget(self, region: str, token: str) -> None:
        """It was refused; another thread may have fetched the next one since."""
        if account := account_of(region):
            if self._known(account) == token:
                self.tokens.pop(account.cache_key, None)
            if cache.get(account.cache_key) == token:
                cache.delete(account.cache_key)

    def _known(self, account: Account) -> str:
        token, until = self.tokens.get(account.cache_key, ("", 0.0))
        return token if time.monotonic() < until else cache.get(account.cache_key) or ""

    def _renew(self, account: Account) -> str:
        lock = f"{account.cache_key}:renewing"
        until = time.monotonic() + TOKEN_TIMEOUT
        with self.renewing:
            while not (known := self._known(account)):
                # Who has the lock of the other processes may have died: nobody waits for long.
                if cache.add(lock, "yes", timeout=TOKEN_TIMEOUT) or time.monotonic() > until:
                    try:
                        return self._fetch(account)
                    finally:
                        cache.delete(lock)
                self._wait(RENEWAL_POLL)
            return known

    def _fetch(self, account: Account) -> str:
        response = self._answered(
            "POST",
            account.token_url,
            data={"grant_type": "client_credentials"},
            auth=(account.client_id, account.client_secret),
            timeout=TOKEN_TIMEOUT,
        )
        if response.status_code in (400, 401, 403):
            raise CredentialsRefused(
                _("Battle.net refuses the credentials (%(status)s): correct %(variables)s.")
                % {"status": response.status_code, "variables": account.variables}
            )
        try:
            answer = response.raise_for_status().json()
            token, seconds = str(answer["access_token"]), int(answer["expires_in"])
        except (httpx.HTTPStatusError, ValueError, KeyError, TypeError) as error:
            raise Unavailable(
                _("Battle.net gives no token: %(error)r") % {"error": error}
            ) from error
        # Near its end the same token comes again: it is asked for now and then until it changes.
        good_for = max(seconds - EARLY, min(seconds, 30))
        self.tokens[account.cache_key] = token, time.monotonic() + good_for
        cache.set(account.cache_key, token, timeout=good_for)
        return token

    # Documents

    def request(
        self, region: str, path: str, namespace: str, modified: str, meter: "Asking"
    ) -> Document:
        """A document of a region. Raises any `BattleNetError`."""
        options = {
            "params": {"namespace": f"{namespace}-{region}", "locale": locale(region)},
            "headers": {"If-Modified-Since": modified} if modified else {},
        }
        url = f"{base_url(region)}{path}"
        response = self._authorised(region, url, meter, options)
        match response.status_code:
            case 200:
                return Document(_json(response), response.headers.get("Last-Modified", ""))
            case 304:
                return Document(None, modified)
            case 404:
                raise NotFound(_("Battle.net knows no such name on this realm (404)."))
            case 429:
                raise Held(retry_after(response))
            case status if status >= 500:
                raise Unavailable(_("Battle.net fails (%(status)s).") % {"status": status})
            case status:
                raise Refused(
                    _("Battle.net refuses it (%(status)s): %(why)s")
                    % {"status": status, "why": response.text[:200]}
                )

    def _authorised(
        self, region: str, url: str, meter: "Asking", options: dict[str, Any]
    ) -> httpx.Response:
        for _attempt in range(2):
            token = self.token(region)
            headers = options["headers"] | {"Authorization": f"Bearer {token}"}
            response = self._answered("GET", url, meter, **options | {"headers": headers})
            if response.status_code != 401:
                return response
            self.forget(region, token)
        raise CredentialsRefused(
            _("Battle.net refuses the token that it has just given (401): may this client ask?")
        )

    def _answered(
        self, method: str, url: str, meter: "Asking | None" = None, **options: Any
    ) -> httpx.Response:
        """What it says at last; raises `Unavailable` when it says nothing."""
        for attempt in range(ATTEMPTS):
            if meter:
                meter.requests += 1
            try:
                response = self.http.request(method, url, **options)
            except httpx.HTTPError as error:
                failure = f"{type(error).__name__} {error}".strip()
            else:
                if response.status_code < 500 or attempt == ATTEMPTS - 1:
                    return response
            if attempt < ATTEMPTS - 1:
                self._wait(backoff(attempt))
        raise Unavailable(_("Battle.net does not answer: %(error)s") % {"error": failure})

    def _wait(self, seconds: float) -> None:
        if self.stopping.wait(seconds):
            raise Unavailable(_("The run was ended."))


@dataclass
class Asking:
    """The requests for one row, counted."""

    client: Client
    region: str
    requests: int = 0

    def get(self, path: str, *, modified: str = "", namespace: str = "profile") -> Document:
        return self.client.request(self.region, path, namespace, modified, self)


def address(*names: str) -> str:
    """A path of names, each of which may have any letters."""
    return "".join(f"/{quote(name, safe='')}" for name in names)


def backoff(attempt: int) -> float:
    """Seconds: twice as long each time, and never as long as somebody else waits."""
    jitter = random.uniform(0.5, 1.5)  # noqa: S311 (no secret)
    return float(BACKOFF * 2**attempt * jitter)


def retry_after(response: httpx.Response) -> float:
    """Seconds, or a date; at most LONGEST_HOLD."""
    said = response.headers.get("Retry-After", "")
    if not said:
        return DEFAULT_HOLD
    try:
        seconds = float(said)
    except ValueError:
        try:
            seconds = (parsedate_to_datetime(said) - timezone.now()).total_seconds()
        except (TypeError, ValueError):
            return DEFAULT_HOLD
    return min(max(seconds, 1.0), LONGEST_HOLD)


def _json(response: httpx.Response) -> dict[str, Any]:
    try:
        body = response.json()
    except ValueError as error:
        raise Refused(_("Battle.net answers something that is no JSON.")) from error
    if not isinstance(body, dict):
        raise Refused(_("Battle.net answers something else than a document."))
    return body

"""The REST API of Kafka Connect, as far as it is needed. Its answers are not trusted to be JSON."""

import time
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

import httpx
from django.conf import settings
from django.utils.translation import gettext as _

Config = dict[str, str]
PAUSE = 0.25  # seconds, before one that settles who does what is asked again


class ConnectError(Exception):
    """What Connect did not do, and why, in words for operators."""


class Unreachable(ConnectError):
    """It does not answer, or it is not Connect that does."""


class TooLate(Unreachable):
    """It did not answer in time: nobody knows whether it did what it was asked."""


class Failed(ConnectError):
    """It answers that something went wrong with what it was asked."""


class Rebalancing(ConnectError):
    """Its workers are settling who does what: to be asked again later."""


class NotThere(ConnectError):
    """It has no connector of that name."""


class Refused(ConnectError):
    """It understood, and will not do it."""


class Connect:
    """Used by one thread, as a context manager; each request within `DEBEZIUM_TIMEOUT` seconds."""

    def __init__(self) -> None:
        login = (settings.DEBEZIUM_USER, settings.DEBEZIUM_PASSWORD)
        self.url = httpx.URL(settings.DEBEZIUM_URL.rstrip("/") + "/")
        self.http = httpx.Client(
            base_url=self.url,
            auth=login if settings.DEBEZIUM_USER else None,
            timeout=settings.DEBEZIUM_TIMEOUT,
            headers={"Accept": "application/json"},
            transport=transport(),
        )

    def __enter__(self) -> "Connect":
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()

    def connectors(self) -> dict[str, dict[str, Any]]:
        """By name, `status` and `info` of each, in one request; one of them may be missing."""
        try:
            found = self._ask("GET", "connectors?expand=status&expand=info")
        except (Failed, Refused, NotThere) as error:
            text = _("%(address)s cannot tell its connectors: %(error)s")
            raise Unreachable(text % {"address": self.address, "error": error}) from error
        if not isinstance(found, dict) or not all(isinstance(v, dict) for v in found.values()):
            raise Unreachable(_("%s answers, but not as Kafka Connect does.") % self.address)
        return found

    def configure(self, name: str, config: Config) -> Config:
        """Make it, or change it; the configuration that Connect made of it."""
        answer = self._ask("PUT", f"connectors/{quote(name, safe='')}/config", config)
        return dict((answer or {}).get("config") or {})

    def complaints(self, config: Config) -> list[str]:
        """What is wrong with a configuration: Debezium tries to reach the database as well."""
        kind = quote(config.get("connector.class", ""), safe="")
        answer = self._ask("PUT", f"connector-plugins/{kind}/config/validate", config) or {}
        values = [entry.get("value") or {} for entry in answer.get("configs") or []]
        return [str(error) for value in values for error in value.get("errors") or []]

    def restart(self, name: str, *, only_failed: bool) -> None:
        only = "true" if only_failed else "false"
        self._post(name, f"restart?includeTasks=true&onlyFailed={only}")

    def pause(self, name: str) -> None:
        self._ask("PUT", f"connectors/{quote(name, safe='')}/pause")

    def resume(self, name: str) -> None:
        self._ask("PUT", f"connectors/{quote(name, safe='')}/resume")

    @property
    def address(self) -> str:
        """Without the password that may stand in it."""
        return f"{self.url.host}:{self.url.port or {'https': 443}.get(self.url.scheme, 80)}"

    def _post(self, name: str, verb: str) -> None:
        self._ask("POST", f"connectors/{quote(name, safe='')}/{verb}")

    def _ask(self, method: str, path: str, body: Any = None) -> Any:
        until = time.monotonic() + settings.DEBEZIUM_TIMEOUT
        while True:
            response = self._send(method, path, body)
            if response.status_code != HTTPStatus.CONFLICT:
                break
            if time.monotonic() + PAUSE > until:
                raise Rebalancing(
                    _("The workers of Kafka Connect are settling who does what: try again soon.")
                )
            time.sleep(PAUSE)
        return self._judge(response)

    def _send(self, method: str, path: str, body: Any) -> httpx.Response:
        try:
            return self.http.request(method, path, json=body)
        except httpx.TimeoutException as error:
            late = _("%(address)s did not answer within %(seconds)g s.")
            values = {"address": self.address, "seconds": settings.DEBEZIUM_TIMEOUT}
            raise TooLate(late % values) from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            away = _("%(address)s cannot be reached: %(error)s.")
            values = {"address": self.address, "error": str(error) or type(error).__name__}
            raise Unreachable(away % values) from error

    def _judge(self, response: httpx.Response) -> Any:
        code = response.status_code
        if code in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            text = _("%s refuses this project: set DEBEZIUM_USER and DEBEZIUM_PASSWORD.")
            raise Unreachable(text % self.address)
        if code == HTTPStatus.NOT_FOUND:
            raise NotThere(self._message(response) or _("Kafka Connect has no such connector."))
        if code >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise Failed(self._message(response) or f"HTTP {code}")
        if code >= HTTPStatus.BAD_REQUEST:
            raise Refused(self._message(response) or f"HTTP {code}")
        if not response.content:
            return None
        try:
            return response.json()
        except ValueError as error:
            text = _("%s answers, but not as Kafka Connect does.")
            raise Unreachable(text % self.address) from error

    @staticmethod
    def _message(response: httpx.Response) -> str:
        try:
            return str(response.json()["message"])
        except (ValueError, KeyError, TypeError):
            return ""


def transport() -> httpx.BaseTransport:
    return httpx.HTTPTransport(retries=1)  # of connecting alone

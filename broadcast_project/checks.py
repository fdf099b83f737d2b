"""What `check --deploy` says about the environment, beyond what Django says; some at any start."""

from importlib.util import find_spec
from typing import Any

import httpx
from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register  # noqa: A004
from django.db import connection

LOCAL_HOSTS = {"localhost", "127.0.0.1", "::1", "[::1]", ".localhost", "testserver"}


@register()
def check_tracing(**_: Any) -> list[CheckMessage]:
    if not settings.TRACING or find_spec("opentelemetry"):
        return []
    return [
        Error(
            "OTEL_EXPORTER_OTLP_ENDPOINT is set, but OpenTelemetry's SDK is not installed.",
            hint="Install what `tracing` lists in pyproject.toml, or leave the variable empty.",
            id="broadcast.E002",
        )
    ]


@register(deploy=True)
def check_database(**_: Any) -> list[CheckMessage]:
    if connection.vendor != "sqlite":
        return []
    return [
        Warning(
            "SQLite serves one machine and one writer at a time.",
            hint="Set DATABASE_URL=postgres://user:password@host/name.",
            id="broadcast.W001",
        )
    ]


@register(Tags.security, deploy=True)
def check_secret_key(**_: Any) -> list[CheckMessage]:
    if not settings.SECRET_KEY_IS_OWN:
        return []
    return [
        Warning(
            "SECRET_KEY was made for this checkout: another machine would have another, and"
            " sessions and stream tokens of one would be invalid on the other.",
            hint="Set SECRET_KEY (or SECRET_KEY_FILE) to the same long random text everywhere.",
            id="broadcast.W002",
        )
    ]


@register(Tags.caches, deploy=True)
def check_redis(**_: Any) -> list[CheckMessage]:
    if settings.REDIS_URL:
        return []
    return [
        Warning(
            "Without Redis, each process has a cache of its own.",
            hint="Set REDIS_URL=redis://host:6379/0; with a single web process this can stay.",
            id="broadcast.W003",
        )
    ]


@register(Tags.security, deploy=True)
def check_https(**_: Any) -> list[CheckMessage]:
    if settings.HTTPS:
        return []
    return [
        Warning(
            "HTTPS is off: passwords, sessions and broadcasts cross the network readable.",
            hint="Put a proxy with a certificate in front, let it set X-Forwarded-Proto, and set"
            " HTTPS=true.",
            id="broadcast.W004",
        )
    ]


@register(deploy=True)
def check_site_url(**_: Any) -> list[CheckMessage]:
    if httpx.URL(settings.SITE_URL).host not in LOCAL_HOSTS:
        return []
    return [
        Warning(
            f"SITE_URL is {settings.SITE_URL}: links in e-mails and feeds, and short links, which"
            " replace others in broadcasts for good, lead to the reader's own machine.",
            hint="Set SITE_URL to the address of this site, such as https://broadcast.example.org.",
            id="broadcast.W006",
        )
    ]


@register(Tags.security, deploy=True)
def check_grip(**_: Any) -> list[CheckMessage]:
    if not settings.GRIP_URLS or settings.GRIP_KEY != "changeme":
        return []
    return [
        Warning(
            "GRIP_KEY is the one that every Pushpin has at first: anybody can sign as the proxy.",
            hint="Set GRIP_KEY, and sig_key in pushpin.conf, to one long random text.",
            id="broadcast.W005",
        )
    ]


@register(Tags.security, deploy=True)
def check_debug(**_: Any) -> list[CheckMessage]:
    public = sorted(set(settings.ALLOWED_HOSTS) - LOCAL_HOSTS)
    if not settings.DEBUG or not public:
        return []
    return [
        Error(
            "DEBUG shows source and settings to anybody, and makes demo logins whose passwords"
            f" are known, while ALLOWED_HOSTS invites {', '.join(public)}.",
            hint="Set DEBUG=false, or ALLOWED_HOSTS to this machine only.",
            id="broadcast.E001",
        )
    ]

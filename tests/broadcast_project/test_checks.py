from types import SimpleNamespace

import pytest
from django.core.checks import run_checks
from pytest_django import Settings

from broadcast_project import checks


@pytest.fixture
def production(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setattr(checks, "connection", SimpleNamespace(vendor="postgresql"))
    settings.SECRET_KEY_IS_OWN = False
    settings.REDIS_URL = "redis://localhost/0"
    settings.HTTPS = True
    settings.DEBUG = False
    settings.ALLOWED_HOSTS = ["example.org"]
    settings.SITE_URL = "https://example.org"
    return settings


def own_checks() -> set[str]:
    messages = run_checks(include_deployment_checks=True)
    own = [message for message in messages if str(message.id).startswith("broadcast.")]
    assert all(message.hint for message in own)
    return {str(message.id) for message in own}


def test_production_settings_are_clean(production: Settings) -> None:
    assert own_checks() == set()


@pytest.mark.parametrize(
    ("setting", "value", "expected"),
    [
        ("SECRET_KEY_IS_OWN", True, "broadcast.W002"),
        ("REDIS_URL", "", "broadcast.W003"),
        ("HTTPS", False, "broadcast.W004"),
        ("SITE_URL", "http://localhost:8000", "broadcast.W006"),
        ("DEBUG", True, "broadcast.E001"),
    ],
)
def test_each_setting_unfit_for_production_has_a_check_with_a_hint(
    production: Settings, setting: str, value: object, expected: str
) -> None:
    setattr(production, setting, value)
    assert own_checks() == {expected}


def test_the_key_of_every_pushpin_is_none(production: Settings) -> None:
    production.GRIP_URLS = ["http://pushpin:5561"]
    production.GRIP_KEY = "changeme"
    assert own_checks() == {"broadcast.W005"}
    production.GRIP_KEY = "a long random text"
    assert own_checks() == set()


def test_sqlite_is_unfit_for_production(
    production: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "connection", SimpleNamespace(vendor="sqlite"))
    assert own_checks() == {"broadcast.W001"}


def test_debug_on_this_machine_alone_is_fine(production: Settings) -> None:
    production.DEBUG = True
    production.ALLOWED_HOSTS = ["localhost", "127.0.0.1", "[::1]"]
    assert own_checks() == set()


def test_traces_need_opentelemetrys_sdk(
    production: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    production.TRACING = True
    assert own_checks() == set()
    monkeypatch.setattr(checks, "find_spec", lambda name: None)
    assert own_checks() == {"broadcast.E002"}

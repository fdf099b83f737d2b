from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from operations.keys.models import ApiKey
from operations.keys.scopes import Scope
from operations.keys.services import make
from tests.factories import UserFactory

MESSAGES = "/api/user/messages"
BROADCASTS = "/api/admin/broadcasts"


@pytest.fixture
def owner(db: None) -> User:
    return UserFactory.create()


@pytest.fixture
def made(owner: User) -> tuple[ApiKey, str]:
    return make(owner, "Shop", Scope.values)


@pytest.fixture
def key(made: tuple[ApiKey, str]) -> ApiKey:
    return made[0]


@pytest.fixture
def written(made: tuple[ApiKey, str]) -> str:
    return made[1]


@pytest.fixture
def program(written: str) -> Client:
    """A client that sends the key, and nothing else."""
    return Client(headers={"x-api-key": written})


def code_of(response: Any) -> tuple[int, str]:
    return response.status_code, response.json()["code"]

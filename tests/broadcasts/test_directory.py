import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from django.contrib.auth.models import User
from django.test import override_settings

from broadcasts.directory import (
    HttpDirectory,
    ModelDirectory,
    Person,
    Target,
    UserServiceUnavailable,
    channels_of,
    get_directory,
)
from tests.factories import GroupFactory, ProductFactory, UserFactory
from tests.waiting import PATIENCE

pytestmark = pytest.mark.django_db


class UserService(ThreadingHTTPServer):
    """A real server; what it answers, and how badly, is told to it."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: dict[str, Any] = {}
        """By path: what is sent as JSON; `bytes` as they are, an `int` as a bare status."""
        self.slow = threading.Event()
        self.asked: list[tuple[str, dict[str, list[str]], str | None]] = []
        self.released = threading.Event()


class Handler(BaseHTTPRequestHandler):
    server: UserService

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        token = self.headers["Authorization"]
        self.server.asked.append((url.path, parse_qs(url.query), token))
        if self.server.slow.is_set():
            self.server.released.wait(PATIENCE)
        answer = self.server.answers.get(url.path, 404)
        self.send_response(answer if isinstance(answer, int) else 200)
        self.end_headers()
        if not isinstance(answer, int):
            self.wfile.write(answer if isinstance(answer, bytes) else json.dumps(answer).encode())

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def service() -> Iterator[UserService]:
    with UserService() as service:
        thread = threading.Thread(target=service.serve_forever, args=(0.01,))
        thread.start()
        yield service
        service.released.set()
        service.shutdown()
        thread.join()


@pytest.fixture
def directory(service: UserService) -> Iterator[HttpDirectory]:
    url = f"http://127.0.0.1:{service.server_port}"
    with override_settings(
        DIRECTORY_URL=url, DIRECTORY_TOKEN="open sesame", DIRECTORY_TIMEOUT=PATIENCE
    ):
        directory = HttpDirectory()
    yield directory
    directory.client.close()


@pytest.fixture
def ann() -> User:
    return UserFactory.create(username="ann", first_name="Ann", last_name="Lee")


@pytest.fixture
def bob() -> User:
    return UserFactory.create(username="bob", first_name="Bob", last_name="Stone")


# Of this database


def test_a_person_in_two_roles_counts_once(ann: User, bob: User) -> None:
    first, second = GroupFactory.create(), GroupFactory.create()
    first.user_set.set([ann, bob])
    second.user_set.set([ann])
    assert ModelDirectory().count("ROLE", [first.name, second.name]) == 2
    assert len(ModelDirectory().sample("ROLE", [first.name, second.name])) == 2


def test_a_person_with_two_products_counts_once(ann: User) -> None:
    first, second = ProductFactory.create(), ProductFactory.create()
    ann.products.set([first, second])
    assert ModelDirectory().count("PRODUCT", [first.slug, second.slug]) == 1


def test_who_is_shut_out_counts_nowhere(ann: User, bob: User) -> None:
    role = GroupFactory.create()
    role.user_set.set([ann, bob])
    User.objects.filter(pk=bob.pk).update(is_active=False)
    selected = [str(ann.pk), str(bob.pk)]
    for audience, targets in (("ALL", []), ("ROLE", [role.name]), ("SELECTED", selected)):
        assert ModelDirectory().count(audience, targets) == 1
        assert [p.username for p in ModelDirectory().sample(audience, targets)] == ["ann"]


@pytest.mark.parametrize(
    ("search", "found"),
    [
        ("", ["ann", "bob"]),
        ("ANN", ["ann"]),
        ("stone", ["bob"]),
        ("ann lee", ["ann"]),
        ("ann stone", []),
    ],
)
def test_a_sample_is_searched_by_name_and_username(
    ann: User, bob: User, search: str, found: list[str]
) -> None:
    assert [p.username for p in ModelDirectory().sample("ALL", [], search)] == found


def test_a_sample_has_a_limit() -> None:
    User.objects.bulk_create(User(username=f"p-{n:04}") for n in range(50))
    names = [p.username for p in ModelDirectory().sample("ALL", [], limit=3)]
    assert names == ["p-0000", "p-0001", "p-0002"]


def test_the_last_of_many_selected_people_is_found() -> None:
    users = User.objects.bulk_create(User(username=f"p-{n:04}") for n in range(2_500))
    targets = [str(user.pk) for user in users]
    assert [p.username for p in ModelDirectory().sample("SELECTED", targets, "p-2499")] == [
        "p-2499"
    ]
    assert len(ModelDirectory().sample("SELECTED", targets)) == 20


@pytest.mark.parametrize("nonsense", ["", "x", "-1", "1.0", "²", "٣", "9" * 19, "9" * 60])
def test_what_is_no_id_is_unknown_not_an_error(ann: User, nonsense: str) -> None:
    targets = [str(ann.pk), nonsense]
    assert ModelDirectory().unknown("SELECTED", targets) == [nonsense]
    assert ModelDirectory().count("SELECTED", targets) == 1
    assert len(ModelDirectory().sample("SELECTED", targets)) == 1


def test_unknown_roles_and_products_are_named() -> None:
    role, product = GroupFactory.create(), ProductFactory.create()
    assert ModelDirectory().unknown("ROLE", [role.name, "x"]) == ["x"]
    assert ModelDirectory().unknown("PRODUCT", [product.slug, "y"]) == ["y"]
    assert ModelDirectory().unknown("ALL", []) == []


def test_targets_have_keys_and_names() -> None:
    ProductFactory.create(slug="tea", name="Green tea")
    GroupFactory.create(name="staff")
    assert ModelDirectory().targets("PRODUCT") == [Target("tea", "Green tea")]
    assert ModelDirectory().targets("ROLE") == [Target("staff", "staff")]


def test_memberships_become_channels(ann: User) -> None:
    ann.groups.add(GroupFactory.create(name="staff"))
    ann.products.add(ProductFactory.create(slug="tea"))
    assert channels_of(ann) == ["all", f"user-{ann.pk}", "role-staff", "product-tea"]


def test_a_person_without_memberships_has_two_channels(ann: User, bob: User) -> None:
    bob.groups.add(GroupFactory.create())
    assert channels_of(ann) == ["all", f"user-{ann.pk}"]


# Over HTTP


def test_the_service_is_asked_with_the_token_and_every_target(
    service: UserService, directory: HttpDirectory
) -> None:
    service.answers["/users/count"] = {"count": 12}
    assert directory.count("ROLE", ["a", "b c"]) == 12
    assert service.asked == [
        ("/users/count", {"audience": ["ROLE"], "target": ["a", "b c"]}, "Bearer open sesame")
    ]


def test_the_service_names_targets_and_people(
    service: UserService, directory: HttpDirectory
) -> None:
    service.answers["/targets"] = {"targets": [{"key": "tea", "name": "Tea"}]}
    service.answers["/users"] = {"users": [{"username": "ann", "name": "Ann Lee"}]}
    assert directory.targets("PRODUCT") == [Target("tea", "Tea")]
    assert directory.unknown("PRODUCT", ["tea", "x"]) == ["x"]
    assert directory.sample("PRODUCT", ["tea"], "ann") == [Person(None, "ann", "Ann Lee")]


def test_memberships_of_the_service_become_channels(
    service: UserService, directory: HttpDirectory, ann: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.answers["/users/ann/memberships"] = {"roles": ["staff"], "products": ["tea"]}
    monkeypatch.setattr("broadcasts.directory.get_directory", lambda: directory)
    assert channels_of(ann) == ["all", f"user-{ann.pk}", "role-staff", "product-tea"]


def test_who_the_service_does_not_know_belongs_to_nothing(
    service: UserService, directory: HttpDirectory, ann: User, bob: User
) -> None:
    service.answers["/users/bob/memberships"] = {"roles": [], "products": ["tea"]}
    for _ in range(10):
        assert directory.memberships([ann]) == [([], [])]
    assert directory.memberships([bob]) == [([], ["tea"])]  # strangers open no circuit


def test_selected_people_are_not_asked_of_the_service(
    service: UserService, directory: HttpDirectory, ann: User
) -> None:
    assert directory.count("SELECTED", [str(ann.pk), "x"]) == 1
    assert directory.unknown("SELECTED", [str(ann.pk), "x"]) == ["x"]
    assert len(directory.sample("SELECTED", [str(ann.pk)])) == 1
    assert service.asked == []


@pytest.mark.parametrize(
    "answer", [500, 503, 401, 404, b"{half", b"\xff", b"", {}, [], None, {"count": "many"}]
)
def test_whatever_else_it_answers_it_is_unavailable(
    service: UserService, directory: HttpDirectory, answer: Any
) -> None:
    service.answers["/users/count"] = answer
    with pytest.raises(UserServiceUnavailable, match="user service"):
        directory.count("ALL", [])


def test_an_answer_that_takes_too_long_is_not_waited_for(
    service: UserService, directory: HttpDirectory
) -> None:
    service.answers["/users/count"] = {"count": 1}
    service.slow.set()
    with override_settings(DIRECTORY_URL=str(directory.client.base_url), DIRECTORY_TIMEOUT=0.3):
        hasty = HttpDirectory()
    with hasty.client, pytest.raises(UserServiceUnavailable):
        hasty.count("ALL", [])


def test_a_service_that_is_not_there_is_unavailable() -> None:
    with (
        httpx.Client(base_url="http://127.0.0.1:1") as client,
        pytest.raises(UserServiceUnavailable),
    ):
        HttpDirectory(client).count("ALL", [])


def test_the_circuit_opens_and_closes_again(service: UserService, directory: HttpDirectory) -> None:
    service.answers["/users/count"] = 500
    directory.breaker.reset_timeout = PATIENCE
    for _ in range(5):
        with pytest.raises(UserServiceUnavailable):
            directory.count("ALL", [])
    asked = len(service.asked)
    with pytest.raises(UserServiceUnavailable, match="repeatedly"):
        directory.count("ALL", [])
    assert len(service.asked) == asked  # it is left in peace
    service.answers["/users/count"] = {"count": 3}
    directory.breaker.reset_timeout = 0  # as if it had passed
    assert directory.count("ALL", []) == 3
    assert directory.breaker.current_state == "closed"


def test_the_directory_is_chosen_by_its_path() -> None:
    get_directory.cache_clear()
    with override_settings(DIRECTORY_BACKEND="broadcasts.directory.HttpDirectory"):
        chosen = get_directory()
    get_directory.cache_clear()
    assert isinstance(chosen, HttpDirectory)
    chosen.client.close()

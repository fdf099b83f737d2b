"""Who belongs to an audience: asked of a backend by dotted path (`DIRECTORY_BACKEND`)."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar
from urllib.parse import quote

import httpx
import pybreaker
from django.conf import settings
from django.contrib.auth.models import AbstractUser, Group, User
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.utils.module_loading import import_string

from broadcasts.models import Audience, Product, Receipt, listed

MOST_AT_ONCE = 8  # questions to a user service
MOST_PAGES = 10  # of a user service, to find a page of those who have not seen something
MOST_WORDS = 10  # of a search; each is three comparisons, and a database limits those
T = TypeVar("T")


def name_of(person: AbstractUser) -> str:
    """As others read it, and as it is kept with what they sent."""
    return (person.get_full_name() or person.get_username())[:200]


class UserServiceUnavailable(Exception):
    """The directory cannot answer now; what needed it waits and is tried again."""


@dataclass(frozen=True)
class Person:
    id: int | None
    username: str
    name: str


@dataclass(frozen=True)
class Target:
    """A role or a product: `key` is what a broadcast stores, `name` what people read."""

    key: str
    name: str


@dataclass(frozen=True)
class Stretch:
    people: list[Person]
    after: str | None
    """The username behind which there may be more; None at the end."""


class Directory(ABC):
    """Every method may raise `UserServiceUnavailable`."""

    @abstractmethod
    def targets(self, audience: str) -> list[Target]:
        """All roles, or all products."""

    @abstractmethod
    def count(self, audience: str, targets: Sequence[str]) -> int:
        """How many people; each counts once."""

    @abstractmethod
    def sample(
        self, audience: str, targets: Sequence[str], search: str = "", limit: int = 20
    ) -> list[Person]:
        """Some of them, whose username or name contains `search`."""

    @abstractmethod
    def memberships(self, users: Sequence[AbstractUser]) -> list[tuple[list[str], list[str]]]:
        """The roles and the products of each person."""

    @abstractmethod
    def without(
        self,
        audience: str,
        targets: Sequence[str],
        receipts: QuerySet[Receipt],
        *,
        search: str = "",
        after: str = "",
        limit: int = 50,
    ) -> Stretch:
        """Some `limit` of those who have none of `receipts`, by username, from behind `after`.

        Perhaps fewer although there are more: whatever is asked, the work is bounded.
        """

    @abstractmethod
    def count_without(
        self, audience: str, targets: Sequence[str], receipts: QuerySet[Receipt]
    ) -> int:
        """How many people have none of `receipts`."""

    knows_roles = False
    """Whether this database has the roles of everybody."""

    def unknown(self, audience: str, targets: Sequence[str]) -> list[str]:
        """Those of `targets` that do not exist."""
        if audience == Audience.ALL:
            return []
        if audience == Audience.SELECTED:
            known = {str(pk) for pk in existing_user_ids(targets)}
        else:
            known = {target.key for target in self.targets(audience)}
        return [target for target in targets if target not in known]


def existing_user_ids(ids: Iterable[str]) -> QuerySet[User, int]:
    people = User.objects.filter(listed(ids_in(ids)), is_active=True)
    return people.values_list("pk", flat=True)


def ids_in(texts: Iterable[str]) -> list[int]:
    """What may be an id: digits, and not more of them than a database takes."""
    return [int(text) for text in texts if text.isascii() and text.isdigit() and len(text) < 19]


def named(people: QuerySet[User], search: str) -> QuerySet[User]:
    """Those whose username or name has each of the first words of `search`."""
    for word in search.replace("\0", " ").split()[:MOST_WORDS]:
        people = people.filter(
            Q(username__icontains=word)
            | Q(first_name__icontains=word)
            | Q(last_name__icontains=word)
        )
    return people


class ModelDirectory(Directory):
    """Django's users and groups, and the products of this database."""

    knows_roles = True

    def targets(self, audience: str) -> list[Target]:
        if audience == Audience.ROLE:
            return [Target(name, name) for name in Group.objects.values_list("name", flat=True)]
        return [Target(slug, name) for slug, name in Product.objects.values_list("slug", "name")]

    def count(self, audience: str, targets: Sequence[str]) -> int:
        return self._people(audience, targets).count()

    def sample(
        self, audience: str, targets: Sequence[str], search: str = "", limit: int = 20
    ) -> list[Person]:
        people = named(self._people(audience, targets), search).order_by("username")
        return [Person(user.pk, user.username, user.get_full_name()) for user in people[:limit]]

    def memberships(self, users: Sequence[AbstractUser]) -> list[tuple[list[str], list[str]]]:
        found: dict[int, tuple[list[str], list[str]]] = {user.pk: ([], []) for user in users}
        roles = Group.objects.filter(user__in=found).order_by("pk")
        for pk, name in roles.values_list("user", "name"):
            found[pk][0].append(name)
        products = Product.objects.filter(subscribers__in=found).order_by("pk")
        for pk, slug in products.values_list("subscribers", "slug"):
            found[pk][1].append(slug)
        return [found[user.pk] for user in users]

    def without(
        self,
        audience: str,
        targets: Sequence[str],
        receipts: QuerySet[Receipt],
        *,
        search: str = "",
        after: str = "",
        limit: int = 50,
    ) -> Stretch:
        people = named(self._people(audience, targets), search).filter(
            ~Exists(receipts.filter(user_id=OuterRef("pk"))), username__gt=after
        )
        rows = people.order_by("username").values_list("pk", "username", "first_name", "last_name")
        return stretch_of(list(rows[: limit + 1]), limit)

    def count_without(
        self, audience: str, targets: Sequence[str], receipts: QuerySet[Receipt]
    ) -> int:
        people = self._people(audience, targets)
        return people.count() - people.filter(pk__in=receipts.values("user_id")).count()

    def _people(self, audience: str, targets: Sequence[str]) -> QuerySet[User]:
        people = User.objects.filter(is_active=True)
        if audience == Audience.ROLE:
            members = User.groups.through.objects.filter(group__name__in=targets)
            return people.filter(pk__in=members.values("user_id"))
        if audience == Audience.PRODUCT:
            subscribed = Product.subscribers.through.objects.filter(product__slug__in=targets)
            return people.filter(pk__in=subscribed.values("user_id"))
        if audience == Audience.SELECTED:
            return people.filter(listed(ids_in(targets)))
        return people


class HttpDirectory(Directory):
    """A user service over HTTP; it names people by username. `docs/directory.md` has the contract.

    A time-out, a connection error or a 5xx answer is `UserServiceUnavailable`; after five in a row
    the circuit opens and for 10 s nothing is asked.
    """

    def __init__(self, client: httpx.Client | None = None) -> None:
        self.client = client or httpx.Client(
            base_url=settings.DIRECTORY_URL,
            timeout=settings.DIRECTORY_TIMEOUT,
            headers={"Authorization": f"Bearer {settings.DIRECTORY_TOKEN}"},
        )
        self.breaker = pybreaker.CircuitBreaker(fail_max=5, reset_timeout=10)

    def targets(self, audience: str) -> list[Target]:
        def read(answer: Any) -> list[Target]:
            return [Target(str(item["key"]), str(item["name"])) for item in answer["targets"]]

        return self._get("targets", read, audience=audience)

    def count(self, audience: str, targets: Sequence[str]) -> int:
        if audience == Audience.SELECTED:
            return existing_user_ids(targets).count()

        def read(answer: Any) -> int:
            return int(answer["count"])

        return self._get("users/count", read, audience=audience, target=targets)

    def sample(
        self, audience: str, targets: Sequence[str], search: str = "", limit: int = 20
    ) -> list[Person]:
        if audience == Audience.SELECTED:
            return ModelDirectory().sample(audience, targets, search, limit)

        def read(answer: Any) -> list[Person]:
            return [Person(None, item["username"], item["name"]) for item in answer["users"]]

        asked = {"audience": audience, "target": targets, "search": search, "limit": limit}
        return self._get("users", read, **asked)

    def without(
        self,
        audience: str,
        targets: Sequence[str],
        receipts: QuerySet[Receipt],
        *,
        search: str = "",
        after: str = "",
        limit: int = 50,
    ) -> Stretch:
        if audience == Audience.SELECTED:
            asked = {"search": search, "after": after, "limit": limit}
            return ModelDirectory().without(audience, targets, receipts, **asked)  # type: ignore[arg-type]
        found: list[Person] = []
        more: str | None = after
        for _ in range(MOST_PAGES):
            if more is None or len(found) >= limit:
                break
            names = self._usernames(audience, targets, search, more, limit)
            found += _local(names, receipts)
            more = names[-1] if len(names) == limit else None
        if len(found) > limit:
            found = found[:limit]
            more = found[-1].username
        return Stretch(found, more)

    def count_without(
        self, audience: str, targets: Sequence[str], receipts: QuerySet[Receipt]
    ) -> int:
        if audience == Audience.SELECTED:
            return ModelDirectory().count_without(audience, targets, receipts)
        return max(self.count(audience, targets) - receipts.count(), 0)

    def _usernames(
        self, audience: str, targets: Sequence[str], search: str, after: str, limit: int
    ) -> list[str]:
        def read(answer: Any) -> list[str]:
            return [str(item["username"]) for item in answer["users"]][:limit]

        asked = {"audience": audience, "target": targets, "search": search, "limit": limit}
        return self._get("users", read, **asked, after=after)

    def memberships(self, users: Sequence[AbstractUser]) -> list[tuple[list[str], list[str]]]:
        with ThreadPoolExecutor(MOST_AT_ONCE) as pool:
            return list(pool.map(self._memberships_of, users))

    def _memberships_of(self, user: AbstractUser) -> tuple[list[str], list[str]]:
        def read(answer: Any) -> tuple[list[str], list[str]]:
            return list(answer["roles"]), list(answer["products"])

        stranger: dict[str, list[str]] = {"roles": [], "products": []}
        return self._get(f"users/{quote(user.username)}/memberships", read, missing=stranger)

    def _get(self, path: str, read: Callable[[Any], T], missing: object = None, **params: Any) -> T:
        """What `read` makes of the answer; of `missing`, if given, when the service says 404."""
        try:
            answer = self.breaker.call(self._answer, path, params, missing)
            return read(answer)
        except pybreaker.CircuitBreakerError as error:
            raise UserServiceUnavailable("the user service failed repeatedly; waiting") from error
        except (httpx.HTTPError, ValueError) as error:
            raise UserServiceUnavailable(f"the user service does not answer: {error}") from error
        except (KeyError, TypeError) as error:
            message = f"the user service answers {path} with something else: {error!r}"
            raise UserServiceUnavailable(message) from error

    def _answer(self, path: str, params: dict[str, Any], missing: object) -> Any:
        response = self.client.get(path, params=params)
        if response.status_code == httpx.codes.NOT_FOUND and missing is not None:
            return missing
        response.raise_for_status()
        return response.json()


def stretch_of(rows: list[tuple[int, str, str, str]], limit: int) -> Stretch:
    """Of rows of which one more was asked for."""
    people = [
        Person(pk, username, f"{first} {last}".strip())
        for pk, username, first, last in rows[:limit]
    ]
    return Stretch(people, people[-1].username if len(rows) > limit else None)


def _local(usernames: list[str], receipts: QuerySet[Receipt]) -> list[Person]:
    """Those of them who are in this database and have none of the receipts, in their order."""
    users = User.objects.filter(username__in=usernames, is_active=True)
    missing = users.exclude(Exists(receipts.filter(user_id=OuterRef("pk"))))
    people = {
        user.username: Person(user.pk, user.username, user.get_full_name()) for user in missing
    }
    return [people[name] for name in usernames if name in people]


@cache
def get_directory() -> Directory:
    """The backend that `DIRECTORY_BACKEND` names."""
    directory: Directory = import_string(settings.DIRECTORY_BACKEND)()
    return directory


def channel_of(audience: str, target: str) -> str:
    return f"{audience.lower() if audience != Audience.SELECTED else 'user'}-{target}"


def channels_of_each(users: Sequence[AbstractUser]) -> list[list[str]]:
    """Every SSE channel that each may read."""
    return [
        [
            "all",
            f"user-{user.pk}",
            *(channel_of(Audience.ROLE, role) for role in roles),
            *(channel_of(Audience.PRODUCT, product) for product in products),
        ]
        for user, (roles, products) in zip(users, get_directory().memberships(users), strict=True)
    ]


def channels_of(user: AbstractUser) -> list[str]:
    return channels_of_each([user])[0]

"""What the operators will do, all of it decided by the seed before anything runs."""

import random
from dataclasses import dataclass, field

ROLES = ["night", "shop", "press", "board"]
PRODUCTS = ["payments", "search", "mail", "maps"]
ABSENT = 1_100  # people without a stream: more than one chunk of an audience
NORMAL, URGENT = 20, 40
LAST = "last"  # the reference of the broadcast that tells each client that it has everything


@dataclass
class Person:
    pk: int = 0
    tabs: int = 0
    roles: list[str] = field(default_factory=list)
    products: list[str] = field(default_factory=list)
    session: str = ""

    @property
    def channels(self) -> set[str]:
        groups = {f"role-{name}" for name in self.roles} | {f"product-{p}" for p in self.products}
        return {"all", f"user-{self.pk}"} | groups


@dataclass
class Planned:
    """Seconds are counted from the beginning; `delay` and what follows, from the sending."""

    reference: str
    at: float
    audience: str = "ALL"
    targets: list[str] = field(default_factory=list)
    priority: int = NORMAL
    delay: float | None = None
    cancelled_after: float | None = None
    expires_after: float | None = None

    def channels(self) -> set[str]:
        if self.audience == "ALL":
            return {"all"}
        kind = {"ROLE": "role", "PRODUCT": "product", "SELECTED": "user"}[self.audience]
        return {f"{kind}-{target}" for target in self.targets}

    def addresses(self, person: Person) -> bool:
        return not self.channels().isdisjoint(person.channels)


def people(chance: random.Random, clients: int) -> list[Person]:
    """With one tab or two, and those who are away; every role and product has somebody."""
    found: list[Person] = []
    while (missing := clients - sum(person.tabs for person in found)) > 0:
        tabs = min(missing, 2 if len(found) % 7 < 3 else 1)
        found.append(Person(tabs=tabs))
    found += [Person() for _ in range(ABSENT)]
    for number, person in enumerate(found):
        person.roles = sorted({ROLES[number % 4], *chance.sample(ROLES, chance.randrange(2))})
        person.products = chance.sample(PRODUCTS, chance.randrange(3))
    for name, person in zip(PRODUCTS, found, strict=False):
        person.products = sorted({name, *person.products})
    return found


def plan(
    chance: random.Random, everybody: list[Person], count: int, seconds: float
) -> list[Planned]:
    """A mix of everything, at random moments."""
    present = [str(person.pk) for person in everybody if person.tabs]
    planned = []
    for number in range(count):
        one = Planned(f"chaos-{number}", chance.uniform(0, seconds))
        one.audience = chance.choice(["ALL", "ROLE", "PRODUCT", "SELECTED", "SELECTED"])
        if one.audience == "ROLE":
            one.targets = chance.sample(ROLES, chance.randint(1, 2))
        elif one.audience == "PRODUCT":
            one.targets = chance.sample(PRODUCTS, chance.randint(1, 2))
        elif one.audience == "SELECTED":
            one.targets = chance.sample(present, chance.randint(1, 8))
            if number % 50 == 0:  # prepared in chunks, by a relay that may be killed meanwhile
                one.targets = [str(person.pk) for person in everybody]
        if chance.random() < 0.2:
            one.priority = URGENT
        if chance.random() < 0.4:
            one.delay = chance.uniform(1, 8)
        ending = chance.random()
        if ending < 0.08:
            one.cancelled_after = chance.uniform(0, 10)
        elif ending < 0.12:
            one.expires_after = (one.delay or 0) + chance.uniform(2, 8)
        planned.append(one)
    return sorted(planned, key=lambda one: one.at)

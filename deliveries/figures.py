"""How endpoints do: counted for a whole page of them at once."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

from django.db.models import Count, Q

from deliveries.models import UNDELIVERED, WAITING, Delivery, Endpoint, Retry, Status
from jobs import clock

WINDOW = timedelta(days=1)


@dataclass(frozen=True)
class Figures:
    """Of the last WINDOW, except what waits."""

    waiting: int = 0
    delivered: int = 0
    undelivered: int = 0

    @property
    def success_rate(self) -> float | None:
        """0 to 1; None when nothing was finished."""
        finished = self.delivered + self.undelivered
        return self.delivered / finished if finished else None


def figures_of(endpoints: Iterable[Endpoint]) -> dict[int, Figures]:
    """By endpoint; two statements, however many there are."""
    pks = [endpoint.pk for endpoint in endpoints]
    of_these = Delivery.objects.filter(endpoint__in=pks).order_by()
    recent = of_these.filter(completed_at__gt=clock.now() - WINDOW)
    waiting = dict(of_these.waiting().values_list("endpoint").annotate(Count("pk")))
    delivered = Count("pk", filter=Q(status=Status.SUCCESS))
    undelivered = Count("pk", filter=Q(status__in=UNDELIVERED))
    finished = {
        pk: (good, bad)
        for pk, good, bad in recent.values_list("endpoint").annotate(
            good=delivered, bad=undelivered
        )
    }
    return {pk: Figures(waiting.get(pk, 0), *finished.get(pk, (0, 0))) for pk in pks}


@dataclass(frozen=True)
class Progress:
    """How far a retry is."""

    count: int
    waiting: int = 0
    delivered: int = 0
    undelivered: int = 0

    @property
    def elsewhere(self) -> int:
        """Of a later retry by now, or deleted."""
        return max(self.count - self.waiting - self.delivered - self.undelivered, 0)

    @property
    def percent(self) -> int:
        """Of what is no longer waiting; 100 only at the end."""
        return 100 * (self.count - self.waiting) // self.count if self.count else 100


def progress_of(retries: Iterable[Retry]) -> dict[int, Progress]:
    """By retry; one statement, however many there are."""
    counts = {retry.pk: retry.count for retry in retries}
    rows = Delivery.objects.filter(retry__in=counts).order_by().values_list("retry")
    counted = {
        pk: numbers
        for pk, *numbers in rows.annotate(
            waiting=Count("pk", filter=Q(status__in=WAITING)),
            delivered=Count("pk", filter=Q(status=Status.SUCCESS)),
            undelivered=Count("pk", filter=Q(status__in=UNDELIVERED)),
        )
    }
    return {pk: Progress(count, *counted.get(pk, ())) for pk, count in counts.items()}

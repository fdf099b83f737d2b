"""The preferences of people, as their streams honour them."""

from collections import defaultdict
from collections.abc import Collection, Iterable
from datetime import UTC, datetime

from django.db.models import Q
from django.db.models.functions import Now

from broadcasts.contents import rendered
from broadcasts.messages import message_of
from broadcasts.models import Address, Audience, Broadcast, Preference, Receipt
from broadcasts.quiet import Window
from connections import screening
from connections.screening import Held
from connections.wire import Frame, held_frame
from outbox.models import Priority

MOST = 500  # broadcasts that one release writes again; of more, the inbox is asked
EARLIER = datetime.min.replace(tzinfo=UTC)  # than any message


class Screen(screening.Screen):
    def __init__(self, preference: Preference) -> None:
        self.muted = frozenset(preference.muted_categories)
        self.hours = preference.quiet_hours
        self.released_to = preference.released_to or EARLIER
        self.next = Window(EARLIER, EARLIER)
        self.next_from = EARLIER

    def mutes(self, frame: Frame) -> bool:
        return frame.category in self.muted and not frame.mandatory

    def holds(self, at: datetime) -> bool:
        if self.hours is None or at < self.released_to:
            return False
        # Asked of every message, and the same until these hours are over.
        if not self.next_from <= at < self.next.end:
            self.next_from, self.next = at, self.hours.next(at)
        return self.next.start <= at


class Preferences(screening.Screening):
    def screens_of(self, user_ids: Collection[int]) -> dict[int, screening.Screen]:
        """Also of who has given up quiet hours: a release may be on its way."""
        chosen = Preference.objects.filter(pk__in=user_ids)
        chosen = chosen.exclude(muted_categories=[], released_to=None)
        return {preference.pk: Screen(preference) for preference in chosen}

    def held(
        self, user_ids: Collection[int], since: datetime, until: datetime
    ) -> list[Held] | None:
        visible = Broadcast.objects.visible(Now()).defer("targets", "last_error")
        begun = Q(activated_at__gte=since, activated_at__lt=until)
        reminded = Q(reminded_at__gte=since, reminded_at__lt=until)
        quiet = visible.filter(begun | reminded, priority__lt=Priority.URGENT, is_test=False)
        broadcasts = list(quiet.order_by("activated_at", "pk")[: MOST + 1])
        if len(broadcasts) > MOST:
            return None
        pks = [broadcast.pk for broadcast in broadcasts]
        channels, without = _addresses(pks), defaultdict(set)
        for pk, user_id, audience, is_done in _receipts(user_ids, pks, since):
            if is_done:
                without[pk].add(user_id)
            elif audience == Audience.SELECTED:
                channels[pk].append(f"user-{user_id}")
        html = rendered(t.content for b in broadcasts for t in b.texts.values())
        return [
            Held(
                held_frame(
                    "broadcast.activated",
                    message_of(broadcast, html) | _reminded(broadcast, since, until),
                    channels[broadcast.pk],
                ),
                frozenset(without[broadcast.pk]),
            )
            for broadcast in broadcasts
        ]


def _addresses(pks: list[int]) -> defaultdict[int, list[str]]:
    channels: defaultdict[int, list[str]] = defaultdict(list)
    found = Address.objects.filter(broadcast__in=pks)
    for pk, channel in found.values_list("broadcast_id", "channel"):
        channels[pk].append(channel)
    return channels


def _reminded(broadcast: Broadcast, since: datetime, until: datetime) -> dict[str, None]:
    """A reminder of another time is an event of its own."""
    at = broadcast.reminded_at
    return {} if at and since <= at < until else {"reminded_at": None}


def _receipts(
    user_ids: Collection[int], pks: list[int], since: datetime
) -> Iterable[tuple[int, int, str, bool]]:
    """Broadcast, person, audience, and whether they have read it or thrown it away.

    Of those that say more than that it arrived. Of what is older there is only a reminder, which is
    for who has not seen it.
    """
    reminded = Q(broadcast__activated_at__lt=since, seen_at__isnull=False)
    is_done = ~Q(read_at=None) | ~Q(dismissed_at=None) | reminded
    said = Q(broadcast__audience=Audience.SELECTED) | is_done
    found = Receipt.objects.filter(said, broadcast__in=pks, user__in=user_ids)
    return found.annotate(is_done=is_done).values_list(
        "broadcast_id", "user_id", "broadcast__audience", "is_done"
    )

"""What other apps may answer to."""

from django.dispatch import Signal

delivered = (
    Signal()
)  # data: dict of the event, user_ids: set[int], at: datetime; in a worker thread

"""What other apps may answer to; each is sent inside the transaction of the fact that it tells."""

from django.dispatch import Signal

event_parked = Signal()  # event: Event
event_redriven = Signal()  # event: Event

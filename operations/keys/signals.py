from django.dispatch import Signal

key_cut = Signal()
"""Sent with `keys` and `reason`, in the transaction in which its open streams are to end; with
`reconnect`, their clients may come back at once."""

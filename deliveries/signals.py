from django.dispatch import Signal

endpoint_given_up = Signal()
"""`endpoint`, in the transaction: it answered 410, or has failed for days."""
endpoint_enabled = Signal()
"""`endpoint`, in the transaction: an operator enabled it again."""

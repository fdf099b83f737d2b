"""The clock of the pantry."""

from domains.pantry.announcements import announce_expiry, announce_stock
from jobs.registry import periodic


@periodic("ITEM_EXPIRATION", every="24h")
def check_expiry() -> int:
    """Tell which pieces in the pantry have expired, or will within seven days."""
    return announce_expiry()


@periodic("STOCK_LEVEL", every="6h")
def check_stock() -> int:
    """Tell what is low in the pantry, and what is used up."""
    return announce_stock()

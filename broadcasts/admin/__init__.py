from broadcasts.admin.broadcasts import BroadcastAdmin
from broadcasts.admin.preferences import DigestAdmin, PreferenceAdmin
from broadcasts.admin.products import ProductAdmin
from broadcasts.admin.receipts import ReceiptAdmin

__all__ = ["BroadcastAdmin", "DigestAdmin", "PreferenceAdmin", "ProductAdmin", "ReceiptAdmin"]

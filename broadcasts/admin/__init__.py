from broadcasts.admin.broadcasts import BroadcastAdmin
from broadcasts.admin.products import ProductAdmin
from broadcasts.admin.receipts import ReceiptAdmin

__all__ = ["BroadcastAdmin", "ProductAdmin", "ReceiptAdmin"]

from broadcasts.admin.broadcasts import BroadcastAdmin
from broadcasts.admin.products import ProductAdmin
from broadcasts.admin.receipts import ReceiptAdmin
from broadcasts.admin.series import SeriesAdmin
from broadcasts.admin.templates import TemplateAdmin

__all__ = ["BroadcastAdmin", "ProductAdmin", "ReceiptAdmin", "SeriesAdmin", "TemplateAdmin"]

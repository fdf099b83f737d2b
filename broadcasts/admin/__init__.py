from broadcasts.admin.broadcasts import BroadcastAdmin
from broadcasts.admin.preferences import DigestAdmin, PreferenceAdmin
from broadcasts.admin.products import ProductAdmin
from broadcasts.admin.receipts import ReceiptAdmin
from broadcasts.admin.rules import RuleAdmin, RuleMatchAdmin
from broadcasts.admin.series import SeriesAdmin
from broadcasts.admin.templates import TemplateAdmin

__all__ = [
    "BroadcastAdmin",
    "DigestAdmin",
    "PreferenceAdmin",
    "ProductAdmin",
    "ReceiptAdmin",
    "RuleAdmin",
    "RuleMatchAdmin",
    "SeriesAdmin",
    "TemplateAdmin",
]

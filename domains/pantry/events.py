"""What the pantry tells; `foodfolio` is the name that those who listen know it by."""

from django.utils.translation import gettext_lazy as _

EVENTS = {
    "foodfolio.detail.expired": _("A piece in the pantry is past its expiry date."),
    "foodfolio.detail.expiring.soon": _("A piece in the pantry expires within seven days."),
    "foodfolio.variant.stock.empty": _("Nothing of a product is left in the pantry."),
    "foodfolio.variant.stock.low": _("Less of a product is left in the pantry than wanted."),
}

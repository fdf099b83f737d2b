"""The types of events that links raise, and when."""

from typing import Any

from django.utils.translation import gettext_lazy as _

EVENTS: dict[str, Any] = {
    "link.expired": _("The expiry of a short link passed, and it was deactivated."),
}

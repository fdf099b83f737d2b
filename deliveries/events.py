"""The events of this app: when each happens."""

from django.utils.translation import gettext_lazy as _

EVENTS = {
    "endpoint.disabled": _("A webhook or Discord endpoint was disabled."),
    "endpoint.enabled": _("An operator enabled an endpoint again."),
}

"""The events of this app: when each happens."""

from django.utils.translation import gettext_lazy as _

EVENTS = {
    "alert.raised": _("A job, an endpoint, a connector, its WAL, or Kafka Connect needs a look."),
    "alert.changed": _("An open alert says something else."),
    "alert.resolved": _("What an alert was about is over."),
    "key.created": _("An API key was made."),
    "key.changed": _("What an API key says of itself was changed."),
    "key.rotated": _("An API key has a new secret."),
    "key.disabled": _("An API key is refused from now on."),
    "key.enabled": _("An API key works again."),
    "key.expired": _("The expiry of an API key passed, and it was disabled."),
    "key.deleted": _("An API key is gone, with what it was used for."),
}

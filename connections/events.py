"""What connections tell, by type: a sentence that says when. No rule answers to it."""

from django.utils.translation import gettext_lazy as _

EVENTS = {"connection.close": _("Streams are to be ended: one, or all of some people.")}

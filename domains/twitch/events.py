"""What is told of streams; `twitchbot` is the name that those who listen know it by."""

from django.utils.translation import gettext_lazy as _

EVENTS = {
    "twitchbot.stream.started": _("A stream on Twitch began."),
    "twitchbot.stream.updated": _("The title or the game of a stream on Twitch changed."),
    "twitchbot.stream.ended": _("A stream on Twitch ended, or nothing came from it any more."),
}

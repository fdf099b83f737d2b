from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class TwitchConfig(AppConfig):
    name = "domains.twitch"
    label = "twitch"
    verbose_name = _("Twitch")

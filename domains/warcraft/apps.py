from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class WarcraftConfig(AppConfig):
    name = "domains.warcraft"
    label = "warcraft"
    verbose_name = _("Warcraft")

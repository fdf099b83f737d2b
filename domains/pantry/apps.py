from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class PantryConfig(AppConfig):
    name = "domains.pantry"
    label = "pantry"
    verbose_name = _("Pantry")

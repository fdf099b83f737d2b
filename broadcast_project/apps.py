from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class BroadcastProjectConfig(AppConfig):
    name = "broadcast_project"
    verbose_name = _("Broadcast project")

    def ready(self) -> None:
        from broadcast_project import alerts, checks  # noqa: F401

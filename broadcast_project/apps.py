import gc
from importlib import import_module

from django.apps import AppConfig, apps
from django.conf import settings
from django.utils.module_loading import module_has_submodule
from django.utils.translation import gettext_lazy as _


class BroadcastProjectConfig(AppConfig):
    name = "broadcast_project"
    verbose_name = _("Broadcast project")

    def ready(self) -> None:
        from broadcast_project import alerts, audit, checks, keys, logs  # noqa: F401
        from outbox import event_types

        if settings.LOG_FORMAT == "json":
            logs.log_what_is_printed()

        for config in apps.get_app_configs():
            if config.module and module_has_submodule(config.module, "events"):
                module = import_module(f"{config.name}.events")
                event_types.register(getattr(module, "EVENTS", {}))

        if not gc.isenabled():  # by manage.py, until now
            gc.freeze()  # what is imported stays: the collector need not look at it again
            gc.enable()

from django.apps import AppConfig, apps
from django.db.models.signals import post_migrate
from django.utils.module_loading import autodiscover_modules
from django.utils.translation import gettext_lazy as _


class JobsConfig(AppConfig):
    name = "jobs"
    verbose_name = _("Jobs")

    def ready(self) -> None:
        from jobs.environment import apply_environment
        from jobs.schedules import synchronise

        autodiscover_modules("tasks")
        apply_environment()
        # Not of this app: Django sends the signal only for apps that have models.
        post_migrate.connect(synchronise, sender=apps.get_app_config("django_q"))

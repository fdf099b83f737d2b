"""`<NAME>_ENABLED` and `<NAME>_INTERVAL`: what the environment says of each job."""

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from jobs.registry import override, periodic_jobs

TRUE, FALSE = {"true", "1", "yes", "on"}, {"false", "0", "no", "off"}


def apply_environment() -> None:
    """Raise `ImproperlyConfigured` with the variable's name when its value means nothing."""
    given: dict[str, str] = settings.JOB_ENVIRONMENT
    for name in list(periodic_jobs):
        interval, enabled = given.get(f"{name}_INTERVAL"), given.get(f"{name}_ENABLED")
        try:
            override(name, every=interval)
        except ValueError as error:
            raise ImproperlyConfigured(f"{name}_INTERVAL: {error}") from error
        if enabled is not None:
            if enabled.lower() not in TRUE | FALSE:
                raise ImproperlyConfigured(f"{name}_ENABLED: write true or false, not {enabled!r}")
            override(name, enabled=enabled.lower() in TRUE)

"""The clock of links."""

from datetime import timedelta

from django.conf import settings
from django.db.models.functions import Now

from domains.links.models import Click, Link
from domains.links.services import delete_clicks, expire
from jobs import clock
from jobs.progress import expect
from jobs.registry import periodic


def overdue() -> int:
    return Link.objects.overdue(Now()).count()


@periodic("LINK_EXPIRATION", every="1h", at_least="55s", backlog=overdue)
def expire_links() -> int:
    """Deactivate links that are active past their expiry, with an event each."""
    return expire()


@periodic("LINK_CLICK_CLEANUP", every="24h")
def delete_old_clicks() -> int:
    """Delete single clicks older than LINK_CLICK_RETENTION_DAYS; what was counted stays."""
    kept_since = clock.now() - timedelta(days=settings.LINK_CLICK_RETENTION_DAYS)
    old = Click.objects.filter(clicked_at__lt=kept_since)
    expect(old.count())
    return delete_clicks(old, by="clicked_at")

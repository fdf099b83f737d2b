"""What LINK_EXPIRATION does, seen from outside: a link is made, time passes, all are told."""

from datetime import timedelta
from urllib.error import HTTPError

import pytest
from django.utils import timezone

from domains.links.models import Link
from tests.everywhere import Everywhere

pytestmark = [pytest.mark.processes, pytest.mark.django_db(transaction=True)]

LINKS = "/api/links"


def test_a_link_that_expired_leads_nowhere_and_all_are_told_once(site: Everywhere) -> None:
    tomorrow = timezone.now() + timedelta(days=1)
    ids = {}
    for alias in ("over", "lasting"):
        fields = {"original_url": "https://example.org/", "custom_alias": alias}
        made = site.request("POST", LINKS, fields | {"expires_at": tomorrow.isoformat()})
        ids[alias] = made["id"]
    past = timezone.now() - timedelta(minutes=1)
    Link.objects.filter(pk=ids["over"]).update(expires_at=past)
    with site.watch("link.expired") as seen:
        site.run_job("LINK_EXPIRATION")
        site.run_job("LINK_EXPIRATION")
    (expired,) = (one["data"] for one in seen)
    assert expired["link_id"] == ids["over"]
    states = {alias: site.request("GET", f"{LINKS}/{pk}")["state"] for alias, pk in ids.items()}
    assert states == {"over": "EXPIRED", "lasting": "ACTIVE"}
    with pytest.raises(HTTPError, match="410") as gone:
        site.request("GET", "/s/over")
    gone.value.close()

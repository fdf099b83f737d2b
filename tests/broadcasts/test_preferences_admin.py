import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from broadcasts.models import Digest, Preference
from tests.factories import UserFactory, operator

pytestmark = pytest.mark.django_db

LISTS = ["preference", "digest"]


def one_more() -> None:
    user = UserFactory.create()
    Preference.objects.create(user=user, muted_categories=["canteen", "<b>news</b>"])
    Digest.objects.create(user=user, next_attempt_at=timezone.now())


@pytest.mark.parametrize("name", LISTS)
def test_a_list_costs_the_same_for_2_and_for_20(client: Client, name: str) -> None:
    client.force_login(operator(f"broadcasts.view_{name}"))
    counts = []
    for more in (2, 18):
        for _ in range(more):
            one_more()
        with CaptureQueriesContext(connection) as queries:
            page = client.get(f"/admin/broadcasts/{name}/").content.decode()
        counts.append(len(queries))
    assert counts[0] == counts[1]
    assert "<b>news</b>" not in page


@pytest.mark.parametrize("name", LISTS)
def test_nobody_changes_what_people_chose(client: Client, name: str) -> None:
    one_more()
    client.force_login(operator(f"broadcasts.view_{name}", f"broadcasts.change_{name}"))
    assert client.get(f"/admin/broadcasts/{name}/add/").status_code == 403
    pk = Preference.objects.get().pk if name == "preference" else Digest.objects.get().pk
    assert client.post(f"/admin/broadcasts/{name}/{pk}/change/").status_code == 403


@pytest.mark.parametrize("name", LISTS)
def test_who_may_not_view_them_gets_403(client: Client, name: str) -> None:
    client.force_login(operator("broadcasts.view_broadcast"))
    assert client.get(f"/admin/broadcasts/{name}/").status_code == 403

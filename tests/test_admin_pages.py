"""What all pages of the console have in common."""

import re
import uuid

import pytest
from django.contrib.auth.models import User
from django.db import models, transaction
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from broadcasts.models import ApprovalStep, Decision, Digest, Preference, Receipt, Template
from broadcasts.series import start
from broadcasts.services import compose, send
from connections.models import Connection, Node
from deliveries.models import Endpoint, Retry
from deliveries.services import send_test
from jobs.models import Job, Run, RunStatus
from operations.models import Alert, Kind
from outbox.models import DeadLetter, Event
from outbox.services import emit

PAIR = re.compile(r"\((&#x27;\w+&#x27;|\d+), &#x27;")  # as Python writes a tuple


def one_of_each(user: User) -> list[models.Model]:
    with transaction.atomic():
        emit("link.expired", "link-1", {})
    broadcast = send(compose(None, title="Hello"))
    job, _ = Job.objects.get_or_create(name="RUN_RETENTION")
    now = timezone.now()
    endpoint = Endpoint.objects.create(name="Shop", url="https://shop.example", patterns=["*"])
    return [
        broadcast,
        Receipt.objects.create(broadcast=broadcast, user=user),
        ApprovalStep.objects.create(
            broadcast=broadcast, version=1, decision=Decision.APPROVED, person_name="Ann"
        ),
        start(None, title="Daily", cron="0 9 * * *"),
        Template.objects.create(name="Rest", title="{{ product }} rests"),
        Preference.objects.create(user=user, email="DAILY"),
        Digest.objects.create(user=user, next_attempt_at=now),
        Connection.objects.create(user=user, node="web-1"),
        Node.objects.create(name="web-1", started_at=now, last_heartbeat=now),
        Event.objects.latest("id"),
        DeadLetter.objects.create(
            source=DeadLetter.RELAY,
            event_id=uuid.uuid4(),
            type="link.expired",
            topic="link",
            key="link-1",
            payload={},
            error="too big",
        ),
        Run.objects.create(job=job, slot=now, status=RunStatus.SUCCEEDED),
        Alert.objects.create(kind=Kind.OVERDUE, subject=job.name),
        endpoint,
        send_test(endpoint),
        Retry.objects.create(what="Shop", by="operator"),
    ]


@pytest.mark.django_db
def test_the_page_of_one_says_its_state_in_words(client: Client) -> None:
    user = User.objects.create_superuser("operator", password="x")
    client.force_login(user)
    for thing in one_of_each(user):
        options = thing._meta
        page = reverse(f"admin:{options.app_label}_{options.model_name}_change", args=[thing.pk])
        answer = client.get(page)
        assert answer.status_code == 200, page
        assert not PAIR.findall(answer.content.decode()), page

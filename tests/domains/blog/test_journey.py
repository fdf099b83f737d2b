"""From the API to a webhook and to the page, through processes as they really run."""

import json
from typing import Any

import httpx
import pytest
from django.utils import timezone

from tests.conftest import Spawn
from tests.deliveries.receiver import receiver
from tests.domains.blog.conftest import HOUR
from tests.processes import Environment
from tests.sse import run_code
from tests.waiting import wait_until

pytestmark = [pytest.mark.processes, pytest.mark.django_db(transaction=True)]

OPERATOR = """
from django.contrib.auth.models import User
User.objects.create_superuser("boss", password="boss")
"""


@pytest.fixture(params=["database", "Kafka"])
def env(request: pytest.FixtureRequest, live_database: Environment) -> Environment:
    env = live_database | {"WEBHOOK_ALLOWED_NETWORKS": "127.0.0.0/8"}
    if request.param == "Kafka":
        prefix = f"blog-{timezone.now():%H%M%S%f}-"
        url = request.getfixturevalue("kafka_url")
        env |= {"KAFKA_BOOTSTRAP_SERVERS": url, "KAFKA_TOPIC_PREFIX": prefix}
    return env


def test_a_scheduled_post_is_published_by_the_job_and_told_to_a_webhook(
    spawn: Spawn, env: Environment, free_port: int
) -> None:
    web = spawn(["web", "--port", str(free_port)], env)
    run_code(OPERATOR, env)  # while it starts
    wait_until(lambda: "Listening" in web.output(), message="web listens")
    site = httpx.Client(base_url=f"http://127.0.0.1:{free_port}", auth=("boss", "boss"), timeout=60)
    with site, receiver() as server:
        endpoint: dict[str, Any] = {"name": "Shop", "url": server.url(), "patterns": ["blog.*"]}
        assert site.post("/api/admin/endpoints", json=endpoint).status_code == 201
        moment = (timezone.now() - HOUR).isoformat()
        post: dict[str, Any] = {"title": "Sea & sky", "content": "*Waves*", "published_at": moment}
        made = site.post("/api/blog/posts", json=post).json()
        assert made["status"] == "DRAFT"
        assert httpx.get(f"{site.base_url}/blog/sea-sky").status_code == 404

        run = spawn(["run_job", "POST_PUBLISHER"], env)
        assert run.wait() == 0, run.output()
        assert "POST_PUBLISHER: 1 items" in run.output()
        assert "<em>Waves</em>" in httpx.get(f"{site.base_url}/blog/sea-sky").text
        assert "Sea &amp; sky" in httpx.get(f"{site.base_url}/blog/feed.rss").text

        spawn(["relay"], env)
        wait_until(lambda: server.received, message="the webhook is told")
        told = json.loads(server.received[0].body)
    assert (told["type"], told["subject"]) == (
        "blog.post.scheduled.published",
        f"post-{made['id']}",
    )
    assert told["data"]["post_id"] == made["id"]
    assert told["data"]["title"] == "Sea & sky"
    assert told["data"]["slug"] == "sea-sky"
    assert told["data"]["scheduled_at"] < told["data"]["published_at"]

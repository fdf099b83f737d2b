"""The form of a rule in Chromium, as an operator fills it in."""

import pytest
from selenium.webdriver import Chrome

from tests.broadcasts.test_forms_chromium import Console
from tests.conftest import Spawn
from tests.processes import Environment
from tests.sse import run_code
from tests.waiting import wait_until

pytestmark = [
    pytest.mark.chromium,
    pytest.mark.processes,
    pytest.mark.django_db(transaction=True),
]

HAPPEN = """
from django.contrib.auth.models import User
from django.db import transaction
from broadcasts.models import Template
from outbox.services import emit
User.objects.create_superuser("operator", password="operator")
Template.objects.create(name="Over", title="{{ code }} is over", content="")
with transaction.atomic():
    for clicks in (1, 9):
        data = {"code": "spring", "clicks": clicks, "owner": {"name": "Ann"}}
        emit("link.expired", "link-7", data)
"""


def test_a_rule_is_made_from_the_latest_event_and_tested_against_past_ones(
    live_database: Environment, free_port: int, spawn: Spawn, browser: Chrome
) -> None:
    env = live_database | {"DEBUG": "true"}
    web = spawn(["web", "--port", str(free_port)], env)
    run_code(HAPPEN, env)
    wait_until(lambda: "Listening" in web.output(), message="web listens")
    console = Console(browser, f"http://127.0.0.1:{free_port}")
    console.env = env
    console.sign_in("operator", "/admin/")

    console.open("/admin/broadcasts/rule/add/")
    console.write("#id_name", "Links")
    console.write("#id_pattern", "link.expired")
    wait_until(lambda: "owner.name" in console.texts(".console-field"), message="its fields")

    console.click("[data-templates] summary")
    console.choose("#template_choice", "1")
    console.click("[data-template-use]")
    wait_until(
        lambda: console.find("#id_title").get_property("value") == "{{ code }} is over",
        message="the texts of the template are taken with their fields",
    )
    console.write("#id_content", "By ")
    console.click("[aria-label='Insert into the text: owner.name']")
    assert console.find("#id_content").get_property("value") == "By {{ owner.name }}"
    console.click("[aria-label='Make a condition of it: clicks']")
    console.choose("[name=conditions_operator]", "greater")
    console.write("[name=conditions_value]", "5")

    console.click("[data-rehearse]")
    console.wait_for("1 of the last 2 events would have been broadcast.")
    assert console.texts(".console-rehearsed h3") == ["spring is over"]
    assert console.has("Not met: clicks is greater than 5. It is 1.")

    console.click("[name=_save]")
    console.wait_for("Saved. It answers from now on.")
    assert console.stored("Rule", "title", "content", "conditions") == {
        "title": "{{ code }} is over",
        "content": "By {{ owner.name }}",
        "conditions": [{"field": "clicks", "operator": "greater", "value": "5"}],
    }
    assert console.complaints() == []

"""Somebody in front of the fridge, with a phone."""

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from domains.pantry import demo
from domains.pantry.models import Piece, ShoppingList
from tests.conftest import Spawn
from tests.deliveries.test_chromium import PHONE, Console
from tests.domains.pantry.conftest import day
from tests.live import database_of
from tests.processes import Environment
from tests.sse import run_code
from tests.waiting import wait_until

pytestmark = [
    pytest.mark.chromium,
    pytest.mark.processes,
    pytest.mark.django_db(transaction=True),
]

COOK = """
from django.contrib.auth.models import User
User.objects.create_superuser("cook", password="cook")
"""


def test_a_kitchen_is_kept_by_phone(
    live_database: Environment, free_port: int, spawn: Spawn, browser: Chrome
) -> None:
    env = live_database | {"DEBUG": "true"}
    web = spawn(["web", "--port", str(free_port)], env)
    run_code(COOK, env)  # while it starts
    with database_of(env):
        demo.create()
        rice = Piece.objects.filter(variant__item__name="Rice", variant__name="Basmati")
    wait_until(lambda: "Listening" in web.output(), message="web listens")
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", PHONE)
    console = Console(browser, f"http://127.0.0.1:{free_port}")
    console.open("pantry/kitchen/")
    console.write(username="cook", password=f"cook{Keys.ENTER}")
    console.says("To be eaten soon")
    assert console.fits()

    console.write(q=f"4000000000044{Keys.ENTER}")
    console.says("0 pieces in stock")
    field = browser.find_element(By.NAME, "expires_on")
    browser.execute_script("arguments[0].value = arguments[1]", field, str(day(90)))
    console.press("[value=put-away]")
    console.says("1 piece of Rice, Basmati put away.")
    console.press("[value=take]")
    console.says("Just used up")
    assert console.fits()
    with database_of(env):
        piece = rice.all().get()
        assert (piece.expires_on, piece.consumed_at is None) == (day(90), False)
        listed = ShoppingList.objects.get().pk

    console.open(f"pantry/shoppinglist/{listed}/shop")
    console.says("3 things to buy")
    assert console.fits()
    console.press(".pantry-rows button")
    console.says("2 things to buy")
    assert not console.complaints()

"""The tools that other tests stand on."""

from collections.abc import Callable

import pytest
from django.contrib.auth.models import User
from django.db import connection
from redis import Redis
from selenium.webdriver import Chrome

from tests.conftest import Spawn
from tests.processes import Environment
from tests.waiting import wait_until


@pytest.mark.processes
def test_a_live_database_is_migrated_and_the_tests_of_this_process_do_not_see_it(
    spawn: Spawn, live_database: Environment, db: None
) -> None:
    code = "from django.contrib.auth.models import User; User.objects.create_user('live')"
    made = spawn(["shell", "--verbosity=0", "-c", code], live_database)
    assert made.wait() == 0, made.output()
    assert connection.vendor in live_database["DATABASE_URL"].replace("postgres:", "postgresql:")
    assert not User.objects.filter(username="live").exists()


def test_redis_answers(redis_url: str) -> None:
    with Redis.from_url(redis_url) as redis:
        assert redis.ping()


@pytest.mark.chromium
def test_two_browsers_share_no_session(browser: Chrome, new_browser: Callable[[], Chrome]) -> None:
    other = new_browser()
    browser.get("data:text/html,<title>one</title>")
    other.get("data:text/html,<title>two</title>")
    assert (browser.title, other.title) == ("one", "two")


def test_wait_until_returns_what_it_waited_for_or_says_what_did_not_come() -> None:
    answers = iter([0, 0, 7])
    assert wait_until(lambda: next(answers)) == 7
    with pytest.raises(TimeoutError, match=r"the answer was not so within 0\.1 s"):
        wait_until(lambda: False, 0.1, "the answer")

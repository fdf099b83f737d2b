"""A writer, a reader and a moderator in Chromium."""

from collections.abc import Callable
from pathlib import Path

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from domains.blog.models import Post
from tests.conftest import Spawn
from tests.domains.blog.conftest import image
from tests.live import database_of
from tests.processes import Environment
from tests.sse import run_code
from tests.waiting import wait_until

pytestmark = [
    pytest.mark.chromium,
    pytest.mark.processes,
    pytest.mark.django_db(transaction=True),
]

WRITER = """
from django.contrib.auth.models import User
User.objects.create_superuser("writer", password="writer")
"""
PHONE = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
LONG = "# " + "endless" * 40 + "\n\n" + "|a" * 40 + "|\n" + "|-" * 40 + "|\n\n```\n" + "x" * 400


class Window:
    def __init__(self, browser: Chrome, root: str) -> None:
        self.browser, self.root = browser, root

    def open(self, path: str) -> None:
        self.browser.execute_script("window.onbeforeunload = null")
        self.browser.get(self.root + path)

    def write(self, **fields: str) -> None:
        for name, text in fields.items():
            self.browser.find_element(By.NAME, name).send_keys(text)

    def press(self, selector: str) -> None:
        self.browser.execute_script("document.querySelector(arguments[0]).click()", selector)

    def says(self, text: str) -> None:
        script = "return document.body?.innerText ?? ''"
        wait_until(lambda: text in self.browser.execute_script(script), message=f"it says {text!r}")

    def shows(self, selector: str) -> None:
        wait_until(lambda: self.browser.find_elements(By.CSS_SELECTOR, selector), message=selector)

    def fits(self) -> bool:
        script = "return document.documentElement.scrollWidth <= innerWidth"
        return bool(self.browser.execute_script(script))

    def complaints(self) -> list[str]:
        logged = self.browser.get_log("browser")
        return [entry["message"] for entry in logged if entry["level"] == "SEVERE"]


def test_a_post_is_written_read_on_a_phone_commented_and_the_comment_approved(
    spawn: Spawn,
    live_database: Environment,
    free_port: int,
    new_browser: Callable[[], Chrome],
    tmp_path: Path,
) -> None:
    env = live_database | {"DEBUG": "true"}
    web = spawn(["web", "--port", str(free_port)], env)
    run_code(WRITER, env)  # while it starts
    wait_until(lambda: "Listening" in web.output(), message="web listens")
    root = f"http://127.0.0.1:{free_port}"
    writer, reader = (Window(new_browser(), root) for _ in range(2))

    writer.open("/admin/blog/media/add/")
    writer.write(username="writer", password=f"writer{Keys.ENTER}")
    writer.shows("[name=upload]")
    (tmp_path / "sun.png").write_bytes(image())
    writer.write(upload=str(tmp_path / "sun.png"), alt="The sun")
    writer.press("[name=_continue]")
    writer.says("![The sun](/media/blog/")
    markdown = writer.browser.find_element(By.CSS_SELECTOR, ".console-pre").text

    writer.open("/admin/blog/post/add/")
    writer.write(title="Sea and sky", content=f"Some *waves*.\n\n{markdown}\n\n{LONG}")
    writer.shows("[data-preview-html] em")
    writer.shows(".select2-search__field[aria-label=Categories]")
    writer.shows("[data-preview-html] img[src^='/media/blog/']")
    writer.press("[name=blog_post_publish_now]")
    writer.says("It is published")
    assert not writer.complaints()

    reader.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", PHONE)
    reader.open("/blog")
    reader.says("Some waves.")
    assert reader.fits()
    reader.open("/blog/sea-and-sky")
    reader.shows(".blog-body img")
    assert reader.browser.execute_script("return document.images[1].naturalWidth") == 800
    assert reader.fits()
    reader.write(name="Ann", content="Well said.")
    reader.press("#answer [type=submit]")
    reader.says("when a moderator has seen it")
    assert not reader.complaints()

    writer.open("/admin/blog/comment/")
    writer.says("Well said.")
    with database_of(env):
        pk = Post.objects.get().comments.get().pk
    writer.open(f"/admin/blog/comment/{pk}/approve/")
    writer.press(".console-question [type=submit]")
    writer.says("1 comment is now: Approved.")
    reader.open("/blog/sea-and-sky")
    reader.says("Well said.")

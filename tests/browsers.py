from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from selenium.webdriver import Chrome, ChromeOptions, ChromeService

from tests.servers import find_program

ARGUMENTS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1280,900",
    "--force-prefers-reduced-motion",  # what still moves is where a click was aimed no more
)


@contextmanager
def chromium(profile: Path) -> Iterator[Chrome]:
    """Raise `MissingError` where Chromium or its driver is not installed."""
    options = ChromeOptions()
    options.binary_location = str(find_program("chromium", "chromium"))
    driver = find_program("chromedriver", "chromium-driver")
    for argument in (*ARGUMENTS, f"--user-data-dir={profile}"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = Chrome(options, ChromeService(str(driver)))
    try:
        yield browser
    finally:
        browser.quit()

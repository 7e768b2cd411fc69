"""A headless Chromium with a new profile that is thrown away, for tests of what people see."""

import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--disable-quic", "--window-size=1280,900",
)  # fmt: skip


@contextmanager
def headless() -> Iterator[Any]:
    """A WebDriver that logs what pages say and what they ask of the network."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    driver_path = shutil.which("chromedriver")
    assert driver_path, "Chromium is here but chromedriver is not (Debian: chromium-driver)"
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        options = webdriver.ChromeOptions()
        options.binary_location = CHROMIUM or ""
        for flag in (*FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        driver = webdriver.Chrome(options=options, service=Service(driver_path))
        try:
            yield driver
        finally:
            driver.quit()


def wait(driver: Any, script: str, *arguments: Any, seconds: float = 30) -> Any:
    """What a script returns as soon as that is true."""
    end = time.monotonic() + seconds
    while not (value := driver.execute_script(script, *arguments)):
        assert time.monotonic() < end, f"waited in vain for: {script}"
        time.sleep(0.05)
    return value

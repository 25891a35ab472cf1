"""A real browser without a window, Debian's Chromium, and what a person would look for in it."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service

if TYPE_CHECKING:
    from collections.abc import Callable


class Browser:
    """One window of Chromium. It is asked by JavaScript what stands on the page."""

    def __init__(self) -> None:
        chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
        if chromium is None or driver is None:
            pytest.skip("chromium and chromedriver are not installed")
        options = Options()
        options.binary_location = chromium
        # A test that runs as root, as in a container, has no sandbox to go into.
        for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"):
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self.driver = webdriver.Chrome(options=options, service=Service(driver))
        self.size(1280, 900)

    def size(self, width: int, height: int) -> None:
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def wish(self, **features: str) -> None:
        """What the system's settings ask for: `color_scheme`, `reduced_motion`."""
        wished = [{"name": f"prefers-{k.replace('_', '-')}", "value": v} for k, v in features.items()]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": wished})

    def open(self, url: str) -> None:
        self.driver.get("about:blank")
        self.driver.get_log("browser")
        self.driver.get_log("performance")
        self.driver.get(url)

    def run(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def text(self, name: str) -> str:
        found: str = self.run("return document.getElementById(arguments[0]).innerText", name)
        return found

    def press(self, *keys: str) -> None:
        """Press keys where the focus is."""
        self.driver.switch_to.active_element.send_keys(*keys)

    def focused(self) -> str:
        found: str = self.run("return document.activeElement.id || document.activeElement.textContent")
        return found

    def until(self, condition: Callable[[], object], timeout_s: float = 15.0) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, f"still waiting after {timeout_s} s; {self.complaints()}"
            time.sleep(0.05)

    def complaints(self) -> list[str]:
        """What stands in the console since the page was opened."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def requested(self) -> list[str]:
        """Every address that was asked for since the page was opened."""
        messages = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        return [
            message["params"]["request"]["url"]
            for message in messages
            if message["method"] == "Network.requestWillBeSent"
        ]

    def ink(self, canvas: str) -> int:
        """How many of a canvas's pixels are drawn on."""
        found: int = self.run(
            """const c = document.getElementById(arguments[0]);
            const d = c.getContext("2d").getImageData(0, 0, c.width, c.height).data;
            let n = 0; for (let i = 3; i < d.length; i += 4) n += d[i] > 0; return n""",
            canvas,
        )
        return found

    def picture(self, canvas: str) -> str:
        found: str = self.run("return document.getElementById(arguments[0]).toDataURL()", canvas)
        return found

    def close(self) -> None:
        self.driver.quit()


CONTRASTS: Final = Path(__file__).with_name("contrasts.js").read_text("utf-8")
"""Of each text on the page, and of what drawings are drawn in: the contrast to what is behind it, as WCAG reckons."""

"""The page of hornet-predict --serve in a real browser."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from helpers import ROOT
from PIL import Image
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait
from service import Served, served

import hornet_train

BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
RUN = ROOT / "tests" / "old_run" / "run"
pytestmark = pytest.mark.skipif(not BROWSER or not DRIVER, reason="needs Chromium: make browser")
DROPPED = """
const given = new DataTransfer();
given.items.add(new File([new Uint8Array(arguments[0])], arguments[1], {type: "image/png"}));
document.getElementById("drop").dispatchEvent(
  new DragEvent("drop", {dataTransfer: given, bubbles: true, cancelable: true}));
"""
FOREIGN = """<!doctype html><title>foreign</title><script>
fetch("URL/predict", {method: "POST", mode: "no-cors", body: "x"})
  .catch(() => 0).finally(() => { document.title = "sent"; });
</script>"""


@pytest.fixture(scope="module")
def service() -> Iterator[Served]:
    with served(RUN) as found:
        yield found


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[webdriver.Chrome]:
    assert BROWSER is not None
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for flag in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        f"--user-data-dir={tmp_path / 'profile'}",
    ):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    made = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    yield made
    made.quit()


def card(browser: webdriver.Chrome, count: int) -> WebElement:
    """The newest answer, when there are `count`."""
    done = "article[data-done=true]"
    WebDriverWait(browser, 60).until(lambda page: len(page.find_elements(By.CSS_SELECTOR, done)) == count)
    return browser.find_element(By.CSS_SELECTOR, "article")


def test_pictures_that_are_chosen_and_dropped_are_answered(
    browser: webdriver.Chrome, service: Served, tmp_path: Path
) -> None:
    path = tmp_path / "<img src=x onerror=document.title='run'>.png"  # a name that is no markup
    pixels = np.kron(np.arange(48, dtype=np.uint8).reshape(4, 4, 3) * 5, np.ones((20, 20, 1), np.uint8))
    Image.fromarray(pixels).save(path)
    expected = hornet_train.load(RUN).predict(path)["classes"]
    browser.get(service.url)
    WebDriverWait(browser, 60).until(lambda page: page.title == "run")
    assert "classification: 0, 1, 2" in browser.find_element(By.ID, "about").text

    browser.find_element(By.ID, "files").send_keys(str(path))
    found = card(browser, 1)
    assert path.name in found.text
    assert [row.text for row in found.find_elements(By.CSS_SELECTOR, "td.name")] == expected
    assert found.find_element(By.TAG_NAME, "img").get_property("naturalWidth") == 80

    browser.execute_script(DROPPED, list(path.read_bytes()), "dropped.png")  # type: ignore[no-untyped-call]
    found = card(browser, 2)
    assert [row.text for row in found.find_elements(By.CSS_SELECTOR, "td.name")] == expected
    browser.execute_script(DROPPED, list(path.read_bytes()[:90]), "half.png")  # type: ignore[no-untyped-call]
    assert "cannot be decoded" in card(browser, 3).find_element(By.CLASS_NAME, "bad").text
    severe = [one["message"] for one in browser.get_log("browser") if one["level"] == "SEVERE"]
    assert len(severe) == 1, severe
    assert "422" in severe[0]

    service.process.kill()
    browser.execute_script(DROPPED, list(path.read_bytes()), "late.png")  # type: ignore[no-untyped-call]
    assert "does not answer" in card(browser, 4).find_element(By.CLASS_NAME, "bad").text


def test_a_page_of_a_stranger_sends_nothing(browser: webdriver.Chrome) -> None:
    with served(RUN) as service:

        class Page(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "text/html")
                self.end_headers()
                self.wfile.write(FOREIGN.replace("URL", service.url).encode())

            def log_message(self, *args: object) -> None:
                pass

        with ThreadingHTTPServer(("127.0.0.1", 0), Page) as stranger:
            threading.Thread(target=stranger.serve_forever, daemon=True).start()
            browser.get(f"http://localhost:{stranger.server_port}")
            WebDriverWait(browser, 60).until(lambda page: page.title == "sent")
            stranger.shutdown()
        assert service.metric('hornet_requests_total{path="/predict",status="403"}') == 1
        assert service.metric("hornet_batch_pictures_count") == 1  # the service's own, at its start

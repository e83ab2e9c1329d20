# SPDX-License-Identifier: Apache-2.0
"""Horizon in a headless Chromium, used as a person uses it."""

from __future__ import annotations

import contextlib
import os
import pathlib
import tempfile
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any

from selenium import webdriver
from selenium.common import exceptions
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support import expected_conditions
from selenium.webdriver.support.wait import WebDriverWait

SECONDS = 120
WIDTH, HEIGHT = 1280, 900

# A directory for the pictures in doc/source/user/images.
SCREENSHOTS = os.environ.get("NOVA_DOCKER_SCREENSHOTS")


@contextlib.contextmanager
def chromium() -> Iterator[webdriver.Chrome]:
    """Start Debian's Chromium, and end it. It leaves files in its TMPDIR."""
    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    for argument in (
        "--headless=new",
        # Chromium's sandbox does not work as root.
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        f"--window-size={WIDTH},{HEIGHT}",
    ):
        options.add_argument(argument)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        service = webdriver.ChromeService(
            "/usr/bin/chromedriver", env=os.environ | {"TMPDIR": directory}
        )
        browser = webdriver.Chrome(options, service)
        try:
            yield browser
        finally:
            browser.quit()


class Dashboard:
    """The pages of a project in Horizon."""

    def __init__(self, browser: webdriver.Chrome, url: str) -> None:
        self.browser = browser
        self.url = url.rstrip("/")

    def wait(self, condition: Callable[[Any], Any], seconds: float = SECONDS) -> Any:
        """Wait until a condition is true. A page that changes meanwhile is no error."""
        changes = (
            exceptions.NoSuchElementException,
            exceptions.StaleElementReferenceException,
            exceptions.ElementNotInteractableException,
            exceptions.ElementClickInterceptedException,
        )
        waiting = WebDriverWait(self.browser, seconds, 0.2, changes)
        return waiting.until(condition)

    def find(self, css: str) -> WebElement:
        """Return an element as soon as a person sees it."""
        place = (By.CSS_SELECTOR, css)
        return self.wait(expected_conditions.visibility_of_element_located(place))

    def click(self, css: str) -> None:
        """Click an element as soon as that is possible."""

        def clicked(browser: Any) -> bool:
            browser.find_element(By.CSS_SELECTOR, css).click()
            return True

        self.wait(clicked)

    def click_text(self, text: str, css: str) -> None:
        """Click the first element whose text begins so, as soon as that is possible."""

        def clicked(browser: Any) -> bool:
            for found in browser.find_elements(By.CSS_SELECTOR, css):
                if found.is_displayed() and found.text.strip().startswith(text):
                    found.click()
                    return True
            return False

        self.wait(clicked)

    def open(self, path: str) -> None:
        self.browser.get(f"{self.url}/{path}")

    def screenshot(self, name: str) -> None:
        """Take a picture of what the window shows, if pictures are wanted."""
        if SCREENSHOTS:
            path = pathlib.Path(SCREENSHOTS, f"horizon-{name}.png")
            self.browser.execute_script("top.scrollTo(0, 0)")
            self.browser.save_screenshot(str(path))

    def log_in(self, user: str, password: str) -> None:
        self.open("auth/login/")
        self.find("#id_username").send_keys(user)
        self.find("#id_password").send_keys(password)
        self.click("#loginBtn")
        self.wait(lambda browser: "/auth/login" not in browser.current_url)

    def launch(
        self, name: str, image: str, flavor: str, network: str, kind: str = "Image"
    ) -> None:
        """Launch a server in the wizard, which is open.

        :param kind: what the image is in the wizard's words
        """
        self.find("wizard #name").send_keys(name)
        for step, form, choice in (
            ("Source", "launchInstanceSourceForm", image),
            ("Flavor", "launchInstanceFlavorForm", flavor),
            ("Networks", "launchInstanceNetworkForm", network),
        ):
            self.click_text(step, "wizard .nav-item a")
            if step == "Source":
                self.click_text(kind, "#boot-source-type option")
            self.allocate(form, choice)
            if step == "Source" and kind == "Image":
                self.screenshot("wizard")
        self.click("wizard button.finish")
        self.wait(lambda browser: not browser.find_elements(By.CSS_SELECTOR, "wizard"))

    def allocate(self, form: str, choice: str) -> None:
        """Choose a row in a step of the wizard, unless it is chosen already."""

        def rows(table: str) -> list[WebElement]:
            found = self.browser.find_elements(
                By.CSS_SELECTOR, f"[ng-form={form}] .transfer-{table} tbody tr"
            )
            return [row for row in found if choice in row.text.split()]

        def chosen(browser: Any) -> bool:
            if rows("allocated"):
                return True
            for row in rows("available")[:1]:
                row.find_element(By.CSS_SELECTOR, "button.btn").click()
            return False

        self.wait(chosen)

    def row(self, name: str) -> WebElement | None:
        """Return the row of a server in the table of servers, if it is there."""
        found = self.browser.find_elements(
            By.CSS_SELECTOR, f"#instances tr[data-display='{name}']"
        )
        return found[0] if found else None

    def server(self, name: str, status: str = "") -> str:
        """Return the ID of a server in the table, as soon as it has a status there.

        Horizon updates the table by itself.
        """

        def shown(_: Any) -> Any:
            row = self.row(name)
            return row and status in row.text and row.get_attribute("data-object-id")

        return self.wait(shown)

    def act(self, server: str, action: str) -> None:
        """Choose an action in the menu of a server's row."""
        row = f"#instances__row__{server}"
        self.click(f"{row} .dropdown-toggle")
        self.click(f"#instances__row_{server}__action_{action}")

    def choose(self, field: str, text: str) -> None:
        """Choose an item in a menu of the form that is open."""
        menu = f".modal.in .themable-select:has(#id_{field})"
        self.click(f"{menu} button")
        self.click_text(text, f"{menu} li a")

    def submit(self) -> None:
        """Submit the form that is open, and wait until the page says that it worked."""
        self.click(".modal.in [type=submit]")
        self.find(".alert-success, .alert-info")

    def open_tab(self, server: str, tab: str) -> None:
        self.open(f"project/instances/{server}/?tab=instance_details__{tab}")

    @contextlib.contextmanager
    def console(self, server: str) -> Iterator[Console]:
        """Use the console in a server's page."""
        self.open_tab(server, "console")
        frame = self.find("#console_embed")
        self.browser.switch_to.frame(frame)
        try:
            yield Console(self)
        finally:
            self.browser.switch_to.default_content()


class Console:
    """The terminal in the page of a serial console."""

    def __init__(self, dashboard: Dashboard) -> None:
        self._dashboard = dashboard
        self._terminal = dashboard.find("#terminalNode .terminal")
        self._terminal.click()

    def type(self, text: str) -> None:
        ActionChains(self._dashboard.browser).send_keys(text).perform()

    def shows(self, text: str) -> None:
        """Wait until the terminal shows a text."""
        self._dashboard.wait(lambda _: text in self._terminal.text)

    @property
    def size(self) -> tuple[int, int]:
        """The rows and columns of the terminal."""
        node = self._dashboard.find("#terminalNode")
        rows, columns = map(node.get_attribute, ("termrows", "termcols"))
        return int(rows), int(columns)

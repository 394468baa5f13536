"""Each notebook in a real JupyterLab in headless Chromium: each cell runs, keys move each control.

``make browser`` runs it. It needs chromium and chromedriver on the PATH, and the optional group
``browser``.
"""

import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import urllib.request
from functools import partial

import nbformat
import numpy as np
import pytest
from PIL import Image
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from helpers import ROOT
from helpers.publishing.notebooks import NOTEBOOKS

PATIENCE = 180  # seconds for one step: an upper limit, no pause
CONTROLS = "browse|block_switches|skip_switches|pixels|before_after"
LIVE = re.compile(rf"^({CONTROLS})\(", re.MULTILINE)
SETTINGS = {  # every output is in the page, and no question about news lies above it
    "notebook-extension/tracker": {"windowingMode": "none"},
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
}
KEYS = {
    ".noUi-handle": Keys.ARROW_RIGHT,
    "input[type=checkbox]": Keys.SPACE,
    ".widget-toggle-button:not(.mod-active)": Keys.ENTER,
}
OPEN = """
const app = window.jupyterapp;
await app.restored;
const panel = await app.commands.execute("docmanager:open", {path: arguments[0]});
await panel.context.ready;
await panel.sessionContext.ready;
await app.commands.execute("notebook:run-all-cells");
"""
RUN_AGAIN = """
const {content} = window.jupyterapp.shell.currentWidget;
content.activeCellIndex = arguments[0];
await window.jupyterapp.commands.execute("notebook:run-cell");
"""
IMAGE = """
const images = arguments[0].querySelectorAll("img");
return images.length == 1 && images[0].naturalWidth ? images[0].src : null;
"""
# The button of a FileUpload clicks on an input outside the document, which no driver can fill.
KEEP_INPUT = """
HTMLInputElement.prototype.click = function () {
    this.id = "chosen-file";
    document.body.append(this);
};
"""


def smoke(path, folder):
    """A copy of a notebook without outputs, with the parameters of the smallest preset."""
    notebook = nbformat.read(path, 4)
    (cell,) = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    cell.source += f"\nPRESET = 'smoke'\nOUT = {str(folder / 'out')!r}"
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = []
    nbformat.write(notebook, folder / path.name)


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """The address of a JupyterLab with a home of its own over smoke copies of the notebooks."""
    folder = tmp_path_factory.mktemp("lab")
    for path in NOTEBOOKS:
        smoke(path, folder)
    for name, values in SETTINGS.items():
        file = folder / f".jupyter/lab/user-settings/@jupyterlab/{name}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(values), encoding="utf-8")
    env = {**os.environ, "HOME": str(folder), "PYTHONPATH": str(ROOT)}
    for name in ("COURSEWORK_HEADLESS", "MPLBACKEND"):
        env.pop(name, None)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    token = secrets.token_hex(16)
    options = {"ip": "127.0.0.1", "port": port, "port_retries": 0, "root_dir": folder}
    command = [sys.executable, "-m", "jupyterlab", f"--IdentityProvider.token={token}"]
    command += ["--no-browser", "--allow-root", "--expose-app-in-browser"]
    command += [f"--ServerApp.{name}={value}" for name, value in options.items()]
    with open(folder / "server.log", "w", encoding="utf-8") as log:
        server = subprocess.Popen(command, cwd=folder, env=env, stdout=log, stderr=log)
    try:
        address = f"http://127.0.0.1:{port}/api?token={token}"
        waiting = WebDriverWait(address, PATIENCE, 0.5, [OSError])
        waiting.until(partial(urllib.request.urlopen, timeout=PATIENCE))
        yield f"http://127.0.0.1:{port}/lab?reset&token={token}"
    finally:
        server.terminate()  # it ends its kernels
        server.wait(60)


@pytest.fixture
def browser():
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for option in ("headless=new", "no-sandbox", "disable-dev-shm-usage", "window-size=1400,1000"):
        options.add_argument(f"--{option}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
    try:
        yield driver
    finally:
        driver.quit()


def run(browser, script, *arguments):
    """Run a script with awaits in the page to its end. The assertion shows what it throws."""
    ending = 'then(() => window.ended = "", error => window.ended = String(error))'
    started = f"window.ended = null; (async function () {{ {script} }})"
    browser.execute_script(f"{started}.apply(null, arguments).{ending}", *arguments)
    ended = partial(browser.execute_script, "return window.ended")
    until(browser, lambda: ended() is not None, 10 * PATIENCE)
    assert ended() == ""


def errors(browser):
    """The text of every traceback and warning in the page."""
    kinds = "[data-mime-type$='jupyter.error'], [data-mime-type$='jupyter.stderr']"
    return [element.text for element in browser.find_elements(By.CSS_SELECTOR, kinds)]


def boxes(browser):
    """Our controls with their images, once each has its first one."""
    found = browser.find_elements(By.CSS_SELECTOR, ".jp-OutputArea-output .widget-vbox")
    until(browser, lambda: all(browser.execute_script(IMAGE, box) for box in found))
    return found


def until(browser, condition, seconds=PATIENCE):
    """Wait for a condition; any traceback in the page ends the waiting."""

    def holds_or_has_failed(browser):
        assert not errors(browser), errors(browser)
        return condition()

    return WebDriverWait(browser, seconds).until(holds_or_has_failed)


def changes(browser, box, act):
    """Act, and wait until the bytes of the one image of ``box`` are others."""
    before = browser.execute_script(IMAGE, box)
    act()
    until(browser, lambda: browser.execute_script(IMAGE, box) not in (None, before))


def press(browser, box):
    """Every slider one step on, every switch off, every other button: each changes the image."""
    for kind, key in KEYS.items():
        for control in box.find_elements(By.CSS_SELECTOR, kind):
            changes(browser, box, partial(control.send_keys, key))


def upload(browser, box, path):
    browser.execute_script(KEEP_INPUT)
    box.find_element(By.CSS_SELECTOR, "button.widget-upload").send_keys(Keys.ENTER)
    browser.find_element(By.ID, "chosen-file").send_keys(str(path))
    browser.execute_script("document.getElementById('chosen-file').remove()")


def try_uploads(browser, box, folder):
    """A large photo with an alpha channel, then no photo at all, then a grey one."""
    pixels = np.random.default_rng(0).integers(0, 255, (900, 700, 4), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "large.png")
    Image.fromarray(pixels[:40, :60, 0]).save(folder / "grey.jpg")
    (folder / "letter.png").write_bytes(b"no photo")
    changes(browser, box, partial(upload, browser, box, folder / "large.png"))
    upload(browser, box, folder / "letter.png")
    until(browser, lambda: "Your file is not an image" in box.text)
    upload(browser, box, folder / "grey.jpg")
    until(browser, lambda: browser.execute_script(IMAGE, box))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_cell_runs_and_every_control_changes_its_image(path, lab, browser, tmp_path):
    browser.get(lab)
    until(browser, lambda: browser.execute_script("return 'jupyterapp' in window"))
    run(browser, OPEN, path.name)
    cells = [cell.source for cell in nbformat.read(path, 4).cells]
    live = [number for number, source in enumerate(cells) if LIVE.search(source)]
    found = boxes(browser)
    assert len(found) == len(live) >= 1
    for box in found:
        press(browser, box)
        if box.find_elements(By.CSS_SELECTOR, "button.widget-upload"):
            try_uploads(browser, box, tmp_path)
    for number in live:
        run(browser, RUN_AGAIN, number)
    found = boxes(browser)
    assert len(found) == len(live)
    for box in found:
        press(browser, box)
    assert not errors(browser), errors(browser)
    entries = browser.get_log("browser")
    assert not [entry["message"] for entry in entries if entry["level"] == "SEVERE"]

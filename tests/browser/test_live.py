"""Each notebook in a real JupyterLab in headless Chromium: every cell runs, every control is moved by keys.

``make browser`` runs it; it needs chromium and chromedriver on the PATH, and the optional group ``browser``.
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

PATIENCE = 180  # seconds for one step, on a machine where others compute: an upper limit, not a pause
LIVE = re.compile(r"^(browse|block_switches|skip_switches|pixels|before_after)\(", re.MULTILINE)
SETTINGS = {  # every output is in the page, and no question about news lies above it
    "notebook-extension/tracker": {"windowingMode": "none"},
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
}
KEYS = {".noUi-handle": Keys.ARROW_RIGHT, "input[type=checkbox]": Keys.SPACE}
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
KEPT = """
const {kernel} = window.jupyterapp.shell.currentWidget.sessionContext.session;
const widgets = {count: "len(__import__('ipywidgets').widgets.widget._instances)"};
const {content} = await kernel.requestExecute({code: "", user_expressions: widgets}).done;
window.kept = content.user_expressions.count.data["text/plain"];
"""
PICTURE = """
const pictures = arguments[0].querySelectorAll("img");
return pictures.length == 1 && pictures[0].naturalWidth ? pictures[0].src : null;
"""
# The button of a FileUpload clicks on an input that is in no document; a driver can only fill one that is.
KEEP_INPUT = """
HTMLInputElement.prototype.click = function () { this.id = "chosen-file"; document.body.append(this); };
"""


def smoke(path, folder):
    """A copy of a notebook without outputs, whose parameters are those of the smallest preset."""
    notebook = nbformat.read(path, 4)
    (cell,) = (cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", []))
    cell.source += f"\nPRESET, OUT = 'smoke', {str(folder / 'out')!r}"
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    nbformat.write(notebook, folder / path.name)


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """The address of a JupyterLab over smoke copies of the notebooks, with a configuration of its own."""
    folder = tmp_path_factory.mktemp("lab")
    (folder / "helpers").symlink_to(ROOT / "helpers")  # where the first cell looks for it
    for path in NOTEBOOKS:
        smoke(path, folder)
    for name, values in SETTINGS.items():
        file = folder / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(values), encoding="utf-8")
    homes = {"JUPYTER_RUNTIME_DIR": "runtime", "JUPYTER_CONFIG_DIR": "config", "JUPYTER_DATA_DIR": "data"}
    homes |= {"JUPYTERLAB_SETTINGS_DIR": "settings", "JUPYTERLAB_WORKSPACES_DIR": "workspaces"}
    homes |= {"IPYTHONDIR": "ipython"}
    env = {k: v for k, v in os.environ.items() if k not in ("COURSEWORK_HEADLESS", "MPLBACKEND")}
    env |= {name: str(folder / home) for name, home in homes.items()}
    env["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [env.get("PYTHONPATH")])])
    token = secrets.token_hex(16)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]  # the server takes the next one if somebody is quicker
    options = [f"--ServerApp.port={port}", "--ServerApp.port_retries=50", "--ServerApp.ip=127.0.0.1"]
    options += [f"--ServerApp.root_dir={folder}", f"--IdentityProvider.token={token}"]
    options += ["--no-browser", "--allow-root", "--expose-app-in-browser"]
    with open(folder / "server.log", "w", encoding="utf-8") as log:
        command = [sys.executable, "-m", "jupyterlab", *options]
        server = subprocess.Popen(command, cwd=folder, env=env, stdout=log, stderr=log)
    try:
        about = folder / "runtime" / f"jpserver-{server.pid}.json"
        WebDriverWait(server, PATIENCE).until(lambda server: about.exists() or server.poll() is not None)
        assert server.poll() is None, (folder / "server.log").read_text(encoding="utf-8")
        address = json.loads(about.read_text(encoding="utf-8"))["url"]
        WebDriverWait(address, PATIENCE, ignored_exceptions=[OSError]).until(
            lambda address: urllib.request.urlopen(f"{address}api?token={token}", timeout=PATIENCE)
        )
        yield f"{address}lab?reset&token={token}"
    finally:
        server.terminate()  # it ends its kernels
        try:
            server.wait(60)
        finally:
            server.kill()


@pytest.fixture
def browser():
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for option in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1400,1000"):
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
    try:
        yield driver
    finally:
        driver.quit()


def run(browser, script, *arguments):
    """Run a script with awaits in the page to its end; what it throws is what the assertion shows."""
    ending = 'then(() => window.ended = "", error => window.ended = String(error))'
    started = f"window.ended = null; (async function () {{ {script} }}).apply(null, arguments).{ending}"
    browser.execute_script(started, *arguments)
    until(browser, lambda: browser.execute_script("return window.ended") is not None, 10 * PATIENCE)
    assert browser.execute_script("return window.ended") == ""


def errors(browser):
    """The text of every traceback and warning in the page."""
    kinds = "[data-mime-type$='jupyter.error'], [data-mime-type$='jupyter.stderr']"
    return [element.text for element in browser.find_elements(By.CSS_SELECTOR, kinds)]


def boxes(browser):
    """Our controls with their pictures, once each has its first one."""
    found = browser.find_elements(By.CSS_SELECTOR, ".jp-OutputArea-output .widget-vbox")
    until(browser, lambda: all(browser.execute_script(PICTURE, box) for box in found))
    return found


def until(browser, condition, seconds=PATIENCE):
    """Wait for a condition; any traceback in the page ends the waiting."""

    def holds_or_has_failed(browser):
        assert not errors(browser), errors(browser)
        return condition()

    return WebDriverWait(browser, seconds).until(holds_or_has_failed)


def changes(browser, box, act):
    """Act, and wait until the bytes of the one picture of ``box`` are others."""
    before = browser.execute_script(PICTURE, box)
    act()
    until(browser, lambda: browser.execute_script(PICTURE, box) not in (None, before))


def press(browser, box):
    """Every slider one step on, and every switch off: by keys, each must change the picture."""
    for kind, key in KEYS.items():
        for control in box.find_elements(By.CSS_SELECTOR, kind):
            changes(browser, box, partial(control.send_keys, key))


def upload(browser, box, path):
    browser.execute_script(KEEP_INPUT)
    box.find_element(By.CSS_SELECTOR, "button.widget-upload").send_keys(Keys.ENTER)
    browser.find_element(By.ID, "chosen-file").send_keys(str(path))
    browser.execute_script("document.getElementById('chosen-file').remove()")


def try_uploads(browser, box, folder):
    """A large photo held sideways, with an alpha channel; then no photo at all; then a grey one."""
    pixels = np.random.default_rng(0).integers(0, 255, (900, 700, 4), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "large.png")
    Image.fromarray(pixels[:40, :60, 0]).save(folder / "grey.jpg")
    (folder / "letter.png").write_bytes(b"no photo")
    changes(browser, box, partial(upload, browser, box, folder / "large.png"))
    upload(browser, box, folder / "letter.png")
    until(browser, lambda: "letter.png is not an image" in box.text)
    upload(browser, box, folder / "grey.jpg")
    until(browser, lambda: browser.execute_script(PICTURE, box))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_cell_runs_and_every_control_changes_its_picture(path, lab, browser, tmp_path):
    browser.get(lab)
    until(browser, lambda: browser.execute_script("return 'jupyterapp' in window"))
    run(browser, OPEN, path.name)
    cells = [cell.source for cell in nbformat.read(path, 4).cells]
    live = [number for number, source in enumerate(cells) if LIVE.search(source)]
    found = boxes(browser)
    assert len(found) == len(live) >= 2
    for box in found:
        press(browser, box)
        if box.find_elements(By.CSS_SELECTOR, "button.widget-upload"):
            try_uploads(browser, box, tmp_path)
    kept = []
    for _ in range(2):
        for number in live:
            run(browser, RUN_AGAIN, number)
        run(browser, KEPT)
        kept.append(int(browser.execute_script("return window.kept")))
    assert kept[0] == kept[1] > len(live), "a cell that runs again leaves widgets behind"
    found = boxes(browser)
    assert len(found) == len(live)
    for box in found:
        press(browser, box)
    assert not errors(browser), errors(browser)
    complaints = [entry["message"] for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
    assert not complaints, complaints

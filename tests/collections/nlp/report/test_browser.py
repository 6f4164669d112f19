"""A report in a real browser: a silent console, every plot drawn, light and dark, on phone and desktop."""

import json
import re
import shutil
import subprocess
from html import unescape

import pytest

from nemo.collections.nlp.report import write_report
from tests.collections.nlp.report.run_folders import write_run
from tests.conftest import PATIENCE

pytestmark = pytest.mark.slow

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
NUM_PLOTS = 6

LISTENER = """<script>
window.complaints = [];
for (const kind of ["error", "warn"]) console[kind] = (...told) => complaints.push(told.join(" "));
addEventListener("error", (event) => {
  // Chromium tells of it whenever a plot changes its size while it is laid out; nothing is lost by it.
  if (!event.message.startsWith("ResizeObserver loop")) complaints.push(event.message);
});
addEventListener("unhandledrejection", (event) => complaints.push(String(event.reason)));
</script>"""

# A curve is what has a color: axes and grids are gray.
OBSERVER = """<script>
function canvases(node) {
  const found = [];
  for (const element of node.querySelectorAll("*")) {
    if (element instanceof HTMLCanvasElement) found.push(element);
    if (element.shadowRoot) found.push(...canvases(element.shadowRoot));
  }
  return found;
}
function colored(canvas) {
  if (!canvas.width || !canvas.height) return 0;
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  let number = 0;
  for (let i = 0; i < data.length; i += 4) {
    const [red, green, blue, opaque] = data.subarray(i, i + 4);
    if (opaque > 100 && Math.max(red, green, blue) - Math.min(red, green, blue) > 60) number += 1;
  }
  return number;
}
setTimeout(() => {
  const page = document.documentElement;
  const result = {
    complaints,
    plots: [...document.querySelectorAll("[data-root-id]")].map(
      (plot) => canvases(plot).reduce((sum, canvas) => sum + colored(canvas), 0)
    ),
    axis: Bokeh.documents[0].roots()[0].below[0].major_label_text_color,
    faint: getComputedStyle(page).getPropertyValue("--faint").trim(),
    background: getComputedStyle(document.body).backgroundColor,
    width: innerWidth,
    overflow: page.scrollWidth - innerWidth,
  };
  parent.postMessage(JSON.stringify(result), "*");
}, 3000);
</script>"""


# A window without a screen has 500 pixels at least, a frame in it as many as it is given.
FRAME = """<!doctype html><iframe src="{page}" width="{width}" height="1500"></iframe>
<style>iframe {{ border: 0 }}</style>
<script>
addEventListener("message", (event) => (document.documentElement.dataset.result = event.data));
</script>"""


def seen_by_browser(page, width, scheme):
    """What the observer reports of a page that is so many pixels wide."""
    watched = page.with_name("watched.html")
    html = page.read_text(encoding="utf-8")
    watched.write_text(html.replace("<head>", f"<head>{LISTENER}").replace("</body>", f"{OBSERVER}</body>"))
    frame = page.with_name("frame.html")
    frame.write_text(FRAME.format(page=watched.name, width=width))
    words = [
        BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--window-size=1400,1600", "--dump-dom",
        f"--blink-settings=preferredColorScheme={int(scheme == 'light')}", "--virtual-time-budget=8000",
        f"--user-data-dir={page.parent / 'profile'}", frame.as_uri(),
    ]  # fmt: skip
    dumped = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE).stdout
    return json.loads(unescape(re.search(r'data-result="([^"]*)"', dumped)[1]))


@pytest.mark.skipif(BROWSER is None, reason="no Chromium here: apt-get install chromium")
@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_browser_draws_every_plot_without_errors(tmp_path, width, scheme):
    runs = [write_run(tmp_path / "one")]
    if scheme == "dark":
        runs.append(write_run(tmp_path / "two", steps=300))
    seen = seen_by_browser(write_report(runs, tmp_path / "page.html"), width, scheme)
    assert seen["complaints"] == []
    assert len(seen["plots"]) == NUM_PLOTS
    assert min(seen["plots"]) > 100
    assert seen["width"] == width
    assert seen["overflow"] <= 0
    brightness = max(map(int, re.findall(r"\d+", seen["background"])[:3]))
    assert brightness > 200 if scheme == "light" else brightness < 60
    assert seen["axis"] == seen["faint"]

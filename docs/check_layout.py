"""Look at each page of the built site in a browser, and tell what is wider than its window.

``python docs/check_layout.py [BROWSER]``, after ``tox -e docs``. The browser is Chromium or a
relative of it; ``chromium`` unless you say otherwise.
"""

from __future__ import annotations

import functools
import html
import http.server
import json
import re
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

SITE = Path(__file__).parent / "_build" / "html"
WIDTHS = [320, 390, 768, 1400]

# Tables, code and signatures may scroll within themselves.
LOOK = """<!doctype html><meta charset="utf-8"><pre></pre><script>
(async () => {
  const found = [];
  for (const page of %s) for (const width of %s) {
    const frame = document.createElement("iframe");
    Object.assign(frame, {width, height: 900, src: "/" + page});
    const loaded = new Promise((done) => { frame.onload = done; });
    document.body.append(frame);
    await loaded;
    const {scrollWidth} = frame.contentDocument.scrollingElement;
    if (scrollWidth > frame.contentWindow.innerWidth)
      found.push(`${page} at ${width}: ${scrollWidth} wide`);
    for (const each of frame.contentDocument.querySelectorAll("article *"))
      if (each.getBoundingClientRect().right > width + 1
          && !each.closest(".table-wrapper, .highlight, .sig"))
        found.push(`${page} at ${width}: cut off: ${each.outerHTML.slice(0, 60)}`);
    frame.remove();
  }
  document.querySelector("pre").textContent = JSON.stringify(found);
})();
</script>"""


class Handler(http.server.SimpleHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path != "/look":
            return super().do_GET()
        pages = [str(path.relative_to(SITE)) for path in sorted(SITE.rglob("*.html"))]
        self.send_response(200)
        self.end_headers()
        self.wfile.write((LOOK % (json.dumps(pages), WIDTHS)).encode())

    def log_message(self, *args: object) -> None:
        pass


def main(browser: str = "chromium") -> str | int:
    handler = functools.partial(Handler, directory=SITE)
    with (
        http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server,
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile,
    ):
        threading.Thread(target=server.serve_forever, daemon=True).start()
        options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}"]
        options += ["--disable-background-networking", "--virtual-time-budget=300000"]
        page = f"http://127.0.0.1:{server.server_port}/look"
        command = [browser, *options, "--dump-dom", page]
        shown = subprocess.check_output(command, stderr=subprocess.DEVNULL, text=True)
        server.shutdown()
    result = re.search(r"<pre>(\[.*\])</pre>", shown)
    if result is None:
        return "the browser has not finished"
    return "\n".join(json.loads(html.unescape(result[1]))) or 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

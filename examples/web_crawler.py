"""A crawler: fan out over pages, fan in their links, each page fetched once and tried again on errors.

It crawls a small site that it serves itself on 127.0.0.1, one page of which fails at first.

    python examples/web_crawler.py
"""

from __future__ import annotations

import asyncio
import re
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from fenbu import App, Retry, step

app = App("crawler")
RETRY = Retry(attempts=4, first_seconds=0.05)
PAGES = {
    "/": ["/a", "/b", "/c"],
    "/a": ["/b", "/deep/1"],
    "/b": ["/", "/flaky"],
    "/c": [],
    "/flaky": ["/c"],
    "/deep/1": ["/deep/2"],
    "/deep/2": ["/deep/3"],
    "/deep/3": [],
}


def fetch(url: str) -> str:
    """A plain function: as a step it runs in a thread."""
    with urllib.request.urlopen(url, timeout=5) as answer:
        return answer.read().decode()


@app.workflow
async def links(site: str, path: str) -> list[str]:
    """The links on one page."""
    html = await step.options(retry=RETRY)(fetch, site + path)
    return re.findall(r'href="([^"]+)"', html)


@app.workflow
async def crawl(site: str, depth: int) -> dict[str, int]:
    """All pages within so many clicks of the first, and how many links each has."""
    seen: dict[str, int] = {}
    level = ["/"]
    for _ in range(depth + 1):
        found = await asyncio.gather(*(links(site, path) for path in level))
        seen |= {path: len(each) for path, each in zip(level, found, strict=True)}
        level = sorted({path for each in found for path in each} - seen.keys())
    return seen


class Site(BaseHTTPRequestHandler):
    fetched: list[str] = []

    def do_GET(self) -> None:
        Site.fetched.append(self.path)
        broken = self.path == "/flaky" and Site.fetched.count("/flaky") < 3
        self.send_response(503 if broken else 200)
        self.end_headers()
        body = "".join(f'<a href="{link}">' for link in PAGES[self.path])
        self.wfile.write(body.encode())

    def log_message(self, format: str, *args: object) -> None: ...


async def main() -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Site)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    async with app:
        pages = await crawl(f"http://127.0.0.1:{server.server_port}", 3)
    server.shutdown()
    server.server_close()
    for path, count in pages.items():
        print(f"{path}: {count} links, fetched {Site.fetched.count(path)} times")


if __name__ == "__main__":
    asyncio.run(main())

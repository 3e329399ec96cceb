"""Every example runs to its end by itself, and says what it promises."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"

SAYS = {
    "shop_checkout": ["good: parcel-good", "payment-far: refunded", "left: 8 tea, 2 cups"],
    "human_approval": ["ann: approved", "mail to director", "bob: expired"],
    "payment_webhook": [
        "paid: receipt over 500",
        "not paid: 50000 is too much",
        "not paid: the bank does not answer",
    ],
    "web_crawler": ["/flaky: 1 links, fetched 3 times", "/deep/2: 1 links, fetched 1 times"],
    "rate_limited_api": [r"60 calls in \d+\.\d s, 0 refused"],
    "changing_code": [
        "order-1: not checked, charged tea",
        "order-2: checked cup, charged cup",
        "order-3: charged pot in 3 parts",
    ],
    "shopping_cart": ["ann: paid 1850, 150 off", "mail to bob: your cart waits"],
    "order_events": [
        "mail to ann: order 1",
        "bob paid 900, delivered",
        "ann has 40 points",
        r"\d: Placed[(]order=3, customer='ann', cents=2500[)]",
    ],
    "find_orders": [
        "to look at: order-3 750.0",
        r"of customer 7: order-\d, order-\d",
        "the database has seen no card",
    ],
    "moving_calls": [
        r"^packing (tea|cup)\npacking (tea|cup)\nmoved: order-1, order-1-cup, order-1-tea\n",
        r"order-1: .'tea packed, by bike', 'cup packed, by train'",
    ],
    "live_stock": ["tea: 0 left", "to order: cup, tea", "forgotten after 30 days"],
    "long_history": [
        "the bank says no to 9000000",
        "closed with 13500 cents",
        "purchase 1 of this year",
        "30 last year, 1 this year, mail weekly",
        "129 points",
        r"seen from outside: Account[(]points=129[)]",
    ],
    "streaming_tokens": [
        "The sky is blue because air scatters short waves more than long ones [.]",
        r"14 words, the second process began with [5-9] of them",
    ],
    "shared_cart": [
        "phone-1 adds tea: 1 in the cart",
        "laptop-1 adds cup: 2 in the cart",
        "refused: there is no yacht",
        "ann: cup, tea for 1350",
        "it was: 1350",
    ],
    "table_import": [
        "attempt 1 for request-7 begins at row 0",
        "attempt 2 for request-7 begins at row 300",
        "table closed with 1000 rows",
    ],
    "thumbnails": [
        "cover-4@1200",
        "298 of 300 thumbnails, 2 failed",
        "the first error: ValueError: photo-207 is no picture",
        "tried again: 2, missing: 0",
    ],
    "traced_orders": [
        r"payment of 500\nPOST /orders\n  start checkout\n    run checkout\n",
        r"\n        run Stock.reserve\n",
        r"\n      step charge\n",
        r"\n        run send_receipt: ConnectionError: no receipt for the payment of 500\n",
        r"\n        run send_receipt [(]attempt 2[)]\n",
    ],
    "watched_feed": [
        "news 5: five\npublished: 5\n",
        "news 1: it is open again\npublished: 1\n",
    ],
    "paid_or_not": [
        "slow: not paid in time",
        "moody: cancelled: too dear",
        "quick: ref-1: shipped by hand",
        "invoice: short invoice of quick, at attempt 1",
        "tested",
    ],
    "chat_agent": ["assistant: Oslo has 4 degrees; Kyoto has 5 degrees"],
}


def test_every_example_is_tried() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.py")} == set(SAYS)


@pytest.mark.end_to_end
@pytest.mark.parametrize("name", SAYS)
def test_an_example_runs(name: str, tmp_path: Path) -> None:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("FENBU")}
    done = subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLES / f"{name}.py")],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for pattern in SAYS[name]:
        assert re.search(pattern, done.stdout), done.stdout

"""How a gateway stands, for people: one page without anything from elsewhere, readable without JavaScript."""

from __future__ import annotations

import secrets
import time
from collections import deque
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

from flask import Flask, Response, render_template

from gateway.logs import recent
from gateway.submission import TERMINAL, State
from gateway.views import Json

_HISTORY: Final = 360
_SAMPLE_S: Final = 10.0
_NO_DATABASE: Final = "the database gives no answer, so nothing is taken: is its server running, is its disk full?"
_WIDTH: Final = 100.0
_HEIGHT: Final = 30.0


class History:
    """How much was not settled, each time somebody looked."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, int]] = deque(maxlen=_HISTORY)

    def add(self, at_s: float, count: int) -> None:
        """Remember a sample, unless the last one is only seconds old: then take its place."""
        if len(self._samples) > 1 and at_s - self._samples[-2][0] < _SAMPLE_S:
            self._samples.pop()
        self._samples.append((at_s, count))

    def shown(self) -> Json:
        """Return what a line needs: its points, the most, the newest, and the seconds it spans."""
        samples = list(self._samples)
        if len(samples) < 2:
            return {"points": ""}
        begin_s, end_s = samples[0][0], samples[-1][0]
        span_s, most = max(end_s - begin_s, 1e-9), max(count for _, count in samples)
        points = (
            f"{_WIDTH * (at_s - begin_s) / span_s:.1f},{_HEIGHT - (_HEIGHT - 2) * count / max(most, 1) - 1:.1f}"
            for at_s, count in samples
        )
        return {"points": " ".join(points), "most": most, "now": samples[-1][1], "span_s": span_s}


def add_filters(app: Flask) -> None:
    """Let the page write ages, coin and sizes."""
    app.jinja_env.filters |= {"age": age, "coin": coin, "size": size}


def page(status: Json | None, history: History, *, chain_id: int) -> Response:
    """Return the page.

    Args:
        status: as `/v1/status` tells it; None if the database gives no answer.
        history: to be shown, and added to.
        chain_id: of the chain relayed to.
    """
    nonce = secrets.token_urlsafe(16)
    shown: dict[str, Any] = {"status": status, "concerns": [_NO_DATABASE]}
    if status is not None:
        shown["concerns"] = [one["words"] for one in status["alarms"]]
        counts = {State(state): count for state, count in status["submissions"].items()}
        over = sum(count for state, count in counts.items() if state in TERMINAL)
        on_its_way = sum(counts.values()) - over
        history.add(time.monotonic(), on_its_way + status["operations_waiting"])
        shown |= {"over": over, "on_its_way": on_its_way, "bars": bars(status["batches"]), **history.shown()}
    text = render_template(
        "dashboard.html",
        **shown,
        nonce=nonce,
        chain_id=chain_id,
        warnings=recent(),
        at=datetime.now(UTC).isoformat(sep=" ", timespec="seconds").replace("+00:00", " UTC"),
    )
    response = Response(text, content_type="text/html; charset=utf-8")
    response.headers["Content-Security-Policy"] = (
        f"default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Referrer-Policy"] = "no-referrer"
    response.headers["Cache-Control"] = "no-store"
    return response


def bars(batches: Sequence[Json]) -> list[Json]:
    """Return a bar for each batch (newest first), as high as it carries operations; the newest at the right."""
    most = max((one["operations"] for one in batches), default=0) or 1
    slot = _WIDTH / max(len(batches), 10)
    return [
        {
            "x": round(_WIDTH - slot * (place + 1), 2),
            "y": round(_HEIGHT * (1 - one["operations"] / most), 2),
            "width": round(slot * 0.8, 2),
            "height": round(_HEIGHT * one["operations"] / most, 2),
            "title": f"{one['operations']} operations, {one['state']}",
        }
        for place, one in enumerate(batches)
    ]


def age(seconds: float) -> str:
    """Return a span of time in the unit that suits it."""
    for unit, length_s in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length_s:
            return f"{seconds / length_s:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"


def coin(wei: int) -> str:
    """Return native coin in whole coins with four decimals, rounded down: it is never shown as more than it is."""
    return f"{wei // 10**14 / 10**4:,.4f}"


def size(count: int) -> str:
    """Return a number of bytes in the unit that suits it."""
    for unit, bytes_each in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if count >= bytes_each:
            return f"{count / bytes_each:.1f} {unit}"
    return f"{count} B"

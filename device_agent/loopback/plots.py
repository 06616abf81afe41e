"""The plots of a report, as inline SVG that follows the page's colours. Same values in, same bytes out.

Colours are written as rare stand-ins and replaced by the page's CSS variables, so that one drawing serves light and
dark mode. No meaning rests on colour alone: attackers are dashed, wrong votes and invalid verdicts are crosses.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from statistics import fmean
from typing import Any, cast

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

INK, MUTED, GRID, HONEST, ATTACKER, GOOD, BAD, PAPER = (f"#01020{digit}" for digit in range(8))
_VARIABLES = {
    INK: "var(--ink)",
    MUTED: "var(--muted)",
    GRID: "var(--grid)",
    HONEST: "var(--honest)",
    ATTACKER: "var(--attacker)",
    GOOD: "var(--good)",
    BAD: "var(--bad)",
    PAPER: "var(--paper)",
}
_STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "legend.fontsize": 9,
}
_WIDTH_IN, _HEIGHT_IN = 5.6, 3.5
_MOST_LINES = 24
"""A group of more devices is drawn as its range and its mean."""

_MOST_POINTS = 200
_MOST_NAMES = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One device over time: `values[i]` holds from `at[i]` on."""

    device: str
    honest: bool
    at: Sequence[int]
    values: Sequence[float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Votes:
    """The votes on one contribution and its verdict ("valid", "invalid", "none", or None while it is open).

    The four numbers count votes; votes whose correctness is not known count as correct.
    """

    honest: bool
    verdict: str | None
    valid_correct: int
    valid_wrong: int
    invalid_correct: int
    invalid_wrong: int


def accuracy_plot(lines: Sequence[Line], encounters: int) -> str:
    """Draw every device's accuracy (0 to 1) over settled encounters, and the means."""

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        _draw_groups(axes, lines, end=max(1, encounters), steps=True, scale=100)
        axes.set_xlabel("settled encounters")
        axes.set_ylabel("accuracy on the test set (%)")
        axes.set_ylim(0, 100)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        _legend(figure, axes)

    return _svg("accuracy", draw)


def stake_plot(lines: Sequence[Line], min_stake: float, dropped: Mapping[str, int]) -> str:
    """Draw every device's stake (tokens) over blocks, the least one, and where a device falls out for good."""

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        _draw_groups(axes, lines, end=None, steps=False, scale=1)
        axes.axhline(min_stake, color=BAD, linewidth=1.4, linestyle=(0, (1, 1.5)), label="minimum stake")
        for number, (device, block) in enumerate(sorted(dropped.items(), key=lambda one: (one[1], one[0]))):
            label = "falls out" if number == 0 else None
            axes.plot([block], [min_stake], linestyle="none", marker="X", color=BAD, markersize=8, label=label)
            if number < _MOST_NAMES:
                axes.annotate(
                    device, (block, min_stake), xytext=(0, -14 - 11 * number), textcoords="offset points",
                    ha="center", fontsize=8.5, color=BAD,
                )  # fmt: skip
        axes.set_xlabel("block")
        axes.set_ylabel("stake (tokens)")
        axes.set_ylim(bottom=0)
        _legend(figure, axes)

    return _svg("stake", draw)


def balance_plot(lines: Sequence[Line]) -> str:
    """Draw what every device owns (wallet and stake, tokens) over blocks."""

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        _draw_groups(axes, lines, end=None, steps=False, scale=1)
        axes.set_xlabel("block")
        axes.set_ylabel("wallet and stake (tokens)")
        axes.set_ylim(bottom=0)
        _legend(figure, axes)

    return _svg("balance", draw)


def votes_plot(votes: Sequence[Votes]) -> str:
    """Draw the votes on each contribution (valid up, invalid down), and the verdicts."""

    def draw(figure: Figure) -> None:
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1.1])
        _draw_votes(upper, votes)
        _draw_verdicts(lower, votes)
        figure.legend(
            *upper.get_legend_handles_labels(),
            loc="outside upper left",
            ncols=4,
            handletextpad=0.4,
            columnspacing=1.2,
        )

    return _svg("votes", draw)


def gas_plot(steps: Mapping[str, float], published: int) -> str:
    """Draw the gas of a settled encounter by step, beside the published total."""

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        total = sum(steps.values())
        left = 0.0
        widest = max(total, published)
        for number, (step, gas) in enumerate(steps.items()):
            axes.barh(
                1, gas, left=left, height=0.55, color=HONEST, alpha=0.28 if number % 2 else 0.5,
                edgecolor=PAPER, linewidth=1,
            )  # fmt: skip
            if gas > widest * 0.11:
                axes.text(left + gas / 2, 1, f"{step}\n{gas:,.0f}", ha="center", va="center", fontsize=8.5)
            left += gas
        axes.barh(0, published, height=0.55, color=MUTED, alpha=0.3)
        axes.text(published / 2, 0, f"{published:,}", ha="center", va="center", fontsize=8.5)
        axes.set_yticks([0, 1], ["published", "this run"])
        axes.set_ylim(-0.6, 1.6)
        axes.set_xlabel("gas of a settled encounter")
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.xaxis.set_major_formatter(lambda value, _: f"{value / 1000:,.0f}k")
        axes.grid(visible=False, axis="y")

    return _svg("gas", draw, height_in=2.3)


def _draw_groups(axes: Axes, lines: Sequence[Line], *, end: int | None, steps: bool, scale: float) -> None:
    style = "steps-post" if steps else "default"
    ends: list[tuple[float, float, str]] = []
    for honest, color, dash, name in (
        (False, ATTACKER, (0, (4, 2)), "attackers"),
        (True, HONEST, "-", "honest"),
    ):
        group = [one for one in lines if one.honest is honest and one.at]
        if not group:
            continue
        places = _thinned(sorted({at for one in group for at in one.at} | ({end} if end is not None else set())))
        curves = [[_value_at(one, at) * scale for at in places] for one in group]
        if len(group) > _MOST_LINES:
            low = [min(column) for column in zip(*curves, strict=True)]
            high = [max(column) for column in zip(*curves, strict=True)]
            axes.fill_between(
                places, low, high, step="post" if steps else None, color=color, alpha=0.18, linewidth=0,
                label=f"{name}, range",
            )  # fmt: skip
        else:
            for number, curve in enumerate(curves):
                axes.plot(
                    places, curve, color=color, alpha=0.5, linewidth=1, linestyle=dash, drawstyle=style,
                    label=f"{name}, each" if number == 0 else None,
                )  # fmt: skip
        mean = [fmean(column) for column in zip(*curves, strict=True)]
        axes.plot(places, mean, color=color, linewidth=2.6, linestyle=dash, drawstyle=style, label=f"{name}, mean")
        ends.append((mean[-1], places[-1], color))
    apart = len(ends) == 2 and abs(ends[0][0] - ends[1][0]) < 0.07 * max(
        100 if scale == 100 else 0, *(end[0] for end in ends)
    )
    for value, place, color in ends:
        shift_pt = 0 if not apart else 6 if value == max(ends)[0] else -6
        axes.annotate(
            f"{value:.0f}{' %' if scale == 100 else ''}", (place, value), xytext=(4, shift_pt),
            textcoords="offset points", va="center", color=color, fontweight="bold", annotation_clip=False,
        )  # fmt: skip


def _value_at(line: Line, at: int) -> float:
    """Return the value that holds at a place; before the first one, the first."""
    value = line.values[0]
    for place, here in zip(line.at, line.values, strict=True):
        if place > at:
            break
        value = here
    return value


def _thinned(places: list[int]) -> list[int]:
    if len(places) <= _MOST_POINTS:
        return places
    last = len(places) - 1
    return sorted({places[round(number * last / (_MOST_POINTS - 1))] for number in range(_MOST_POINTS)})


def _draw_votes(axes: Axes, votes: Sequence[Votes]) -> None:
    bars: tuple[list[float], list[float]] = ([], [])
    crosses: tuple[list[float], list[float]] = ([], [])
    for number, one in enumerate(votes, start=1):
        for sign, correct, wrong in (
            (1, one.valid_correct, one.valid_wrong),
            (-1, one.invalid_correct, one.invalid_wrong),
        ):
            for place in range(correct):
                bars[0].extend((number, number, float("nan")))
                bars[1].extend((sign * (place + 0.12), sign * (place + 0.88), float("nan")))
            for place in range(correct, correct + wrong):
                crosses[0].append(number)
                crosses[1].append(sign * (place + 0.5))
    width_pt = 300 / max(1, len(votes))
    axes.plot(
        *bars,
        color=GOOD,
        linewidth=min(6, max(0.5, 0.62 * width_pt)),
        solid_capstyle="butt",
        label="correct vote",
    )
    axes.plot(
        *crosses, linestyle="none", marker="x", color=BAD, label="wrong vote",
        markersize=min(6, max(1.8, 1.1 * width_pt)), markeredgewidth=min(1.6, max(0.5, 0.25 * width_pt)),
    )  # fmt: skip
    highest = max(
        (max(one.valid_correct + one.valid_wrong, one.invalid_correct + one.invalid_wrong) for one in votes),
        default=1,
    )
    axes.axhline(0, color=MUTED, linewidth=0.8)
    axes.set_ylim(-highest - 0.3, highest + 0.3)
    axes.set_ylabel("votes: invalid | valid")
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.yaxis.set_major_formatter(lambda value, _: f"{abs(value):.0f}")


def _draw_verdicts(axes: Axes, votes: Sequence[Votes]) -> None:
    width_pt = 300 / max(1, len(votes))
    for verdict, marker, color, above in (
        ("valid", "o", GOOD, 0.18),
        ("invalid", "x", BAD, -0.18),
        ("none", "_", MUTED, 0.0),
    ):
        found = [(number, one.honest) for number, one in enumerate(votes, start=1) if one.verdict == verdict]
        axes.plot(
            [number for number, _ in found], [int(honest) + above for _, honest in found],
            linestyle="none", marker=marker, color=color, markersize=min(6, max(1.8, 1.1 * width_pt)), label=verdict,
            markeredgewidth=min(1.6, max(0.5, 0.25 * width_pt)),
        )  # fmt: skip
    axes.set_ylim(-0.7, 1.7)
    axes.set_yticks([0, 1], ["by attackers", "by honest"])
    axes.set_xlim(0, max(2, len(votes) + 1))
    axes.set_xlabel("encounter    (verdict: \u25cf valid, \u00d7 invalid, \u2013 none)")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(visible=False, axis="y")


def _legend(figure: Figure, axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    order = sorted(range(len(labels)), key=lambda number: (not labels[number].startswith("honest"), number))
    figure.legend(
        [handles[number] for number in order], [labels[number] for number in order],
        loc="outside upper left", ncols=-(-len(labels) // 2), handlelength=2.4, columnspacing=1.2, borderpad=0,
    )  # fmt: skip


def _svg(name: str, draw: Callable[[Figure], None], *, height_in: float = _HEIGHT_IN) -> str:
    with mpl.rc_context(cast("Any", _STYLE | {"svg.hashsalt": name})):  # the stubs want literal keys
        figure = Figure(figsize=(_WIDTH_IN, height_in), layout="constrained", facecolor="none")
        draw(figure)
        buffer = StringIO()
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(buffer, format="svg", metadata=nothing)
    return _inlined(buffer.getvalue(), name)


def _inlined(svg: str, name: str) -> str:
    """Make a drawing part of a page: no header, ids of its own, the page's colours and font, no needless digits."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = svg.replace('href="#', f'href="#{name}-').replace("url(#", f"url(#{name}-")
    svg = re.sub(r"(\d\.\d\d)\d+", r"\1", svg)
    for stand_in, variable in _VARIABLES.items():
        svg = svg.replace(stand_in, variable)
    head, rest = svg.split(">", 1)
    head = re.sub(r'\s(?:width|height|version|xmlns(?::xlink)?)="[^"]*"', "", head)
    return f'{head} role="img" aria-labelledby="{name}-caption">{rest}'.replace("xlink:href", "href").strip()

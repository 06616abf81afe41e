"""The picture of a payoff audit: the region where honest play is the best response, and what attacks get.

No meaning rests on colour alone: what a point is has a hatching too, and lines differ in their dashes.
"""

from collections.abc import Sequence
from dataclasses import replace
from math import nan
from textwrap import wrap
from typing import TYPE_CHECKING, Any, Final

from contracts.audit import (
    Assumptions,
    Concern,
    Contributing,
    Scheme,
    aside,
    break_even_share,
    conditions,
    contributing_profit,
    least,
    needed_rejection,
    paper,
    share_profit,
)
from contracts.errors import ToolMissing
from contracts.settlement import BPS, DEFAULT_PARAMETERS, ParameterSet

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_KINDS: Final = (
    ("inside", "#56b4e9", ""),
    ("honest voting does not pay", "#e69f00", ".."),
    ("another way of voting pays better", "#f0e442", "//"),
    ("poisoning pays, or honest work does not", "#009e73", "--"),
    ("a few bought votes pay", "#cc79a7", "xx"),
    ("rejecting everything is the best-paid", "#bdbdbd", "\\\\"),
)
"""What a point of the plane is: name, colour (Okabe and Ito's), hatching."""

_MARGINS: Final = (0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4)
"""Lines of equal margin inside, in rewards."""

_LEGEND: Final = "what a point is (free rides aside); on the lines every condition holds with this margin, in rewards r"

_DOTS: Final = 51

_Point = tuple[int, float]
"""A point of the plane: its number in `_KINDS` (-1: not allowed), and the least margin of its conditions."""


def draw(parameters: ParameterSet, assume: Assumptions, *, title: Sequence[str]) -> "Figure":
    """Six plots: the region in three planes, q = 1 beside it, a Neighbor's profit and the coalitions' profits.

    Raises:
        ToolMissing: matplotlib is not installed.
    """
    try:
        import matplotlib as mpl  # noqa: PLC0415  (only this needs it, and only where files are asked for)
        from matplotlib.figure import Figure  # noqa: PLC0415
    except ImportError as error:
        raise ToolMissing("matplotlib is not installed, which --out needs: pip install 'matplotlib>=3.10'") from error
    style: dict[Any, Any] = {"font.size": 9, "axes.titlesize": 9.5, "hatch.linewidth": 0.5, "hatch.color": "#00000055"}
    with mpl.rc_context(style | {"svg.hashsalt": "audit", "svg.fonttype": "none"}):
        figure = Figure(figsize=(13.5, 9.2), layout="constrained")
        plots = figure.subplots(2, 3)
        given, shown = parameters, "shipped" if parameters == DEFAULT_PARAMETERS else "given"
        _error_plane(plots[0][0], given, assume, f"{shown}: p_v = {given.pv_bps / BPS:g}, q = {given.q_bps / BPS:g}")
        _error_plane(plots[0][1], paper(given), assume, f"the paper's q = 1, else as {shown}")
        _pay_plane(plots[0][2], given, assume, shown)
        _bond_plane(plots[1][0], given, assume, shown)
        _neighbor_plot(plots[1][1], given, assume)
        _coalition_plot(plots[1][2], given, assume)
        _legend(figure)
        figure.suptitle("\n".join(wrapped for line in title for wrapped in wrap(line, 150)), fontsize=10.5)
        figure.draw_without_rendering()
    return figure


def _error_plane(axes: "Axes", rules: ParameterSet, assume: Assumptions, title: str) -> None:
    bad = [0.01 + 0.49 * n / (_DOTS - 1) for n in range(_DOTS)]
    errors = [0.005 + 0.295 * n / (_DOTS - 1) for n in range(_DOTS)]
    points = [[_point(rules, replace(assume, bad_share=x, false_alarm=y, miss=y)) for x in bad] for y in errors]
    _fill(axes, bad, errors, points)
    mean_error = (assume.false_alarm + assume.miss) / 2
    _mark(axes, assume.bad_share, mean_error, "assumed", "o")
    axes.set(xlabel="share of bad contributions", ylabel="error rate e of an honest validator", title=title)


def _pay_plane(axes: "Axes", rules: ParameterSet, assume: Assumptions, shown: str) -> None:
    shares = [0.05 + 0.85 * n / (_DOTS - 1) for n in range(_DOTS)]
    fines = [n / (_DOTS - 1) for n in range(_DOTS)]
    points = [[_point(_paying(rules, pv=x, q=y), assume) for x in shares] for y in fines]
    _fill(axes, shares, fines, points)
    pv, bond = rules.pv_bps / BPS, rules.bond_bps / BPS
    axes.plot(shares, shares, color="black", linewidth=1, linestyle="--")
    axes.annotate("q = p_v", (0.78, 0.80), ha="right", va="bottom")
    _mark(axes, pv, rules.q_bps / BPS, shown, "o")
    _mark(axes, pv, 1.0, "q = 1", "s")
    title = f"pay, at e = {_error(assume)}, bad {assume.bad_share:g}, b = max({bond:g}, p_v)"
    axes.set(xlabel="p_v (p_n = 1 - p_v)", ylabel="q", title=title, ylim=(0, 1.04))


def _bond_plane(axes: "Axes", rules: ParameterSet, assume: Assumptions, shown: str) -> None:
    shares = [0.05 + 0.85 * n / (_DOTS - 1) for n in range(_DOTS)]
    bonds = [0.05 + 0.95 * n / (_DOTS - 1) for n in range(_DOTS)]
    points = [
        [_point(_paying(rules, pv=x, q=x, bond=y), assume) if y >= x - 1e-9 else (-1, nan) for x in shares]
        for y in bonds
    ]
    _fill(axes, shares, bonds, points)
    axes.annotate("not allowed: b < p_v", (0.86, 0.1), ha="right", color="#555555")
    label = shown if rules.q_bps == rules.pv_bps else f"{shown} (but its q is not p_v)"
    _mark(axes, rules.pv_bps / BPS, rules.bond_bps / BPS, label, "o")
    title = f"bond, at e = {_error(assume)}, bad {assume.bad_share:g}, q = p_v"
    axes.set(xlabel="p_v (p_n = 1 - p_v)", ylabel="bond b (r)", title=title, ylim=(0.05, 1.0))


def _neighbor_plot(axes: "Axes", rules: ParameterSet, assume: Assumptions) -> None:
    rejecting = [n / 100 for n in range(101)]
    for size, colour, line in ((1, "#888888", ":"), (3, "#0072b2", "-"), (5, "#d55e00", "--"), (7, "#009e73", "-.")):
        panel = replace(rules, validators=size)
        fees = [_fee_when_rejected(panel, assume, one) for one in rejecting]
        axes.plot(rejecting, fees, color=colour, linestyle=line, label=f"V = {size}")
    axes.axhline(0, color="black", linewidth=0.8)
    ride = (1 - assume.tolerated) * (1 - assume.miss)
    for name, x, marker in (
        ("honest work", assume.false_alarm, "o"),
        ("poison", 1 - assume.miss, "X"),
        ("free ride", ride, "^"),
    ):
        axes.plot([x], [_fee_when_rejected(rules, assume, x)], marker, color="black", markersize=8, label=name)
    needed = needed_rejection(rules, assume)
    title = f"a Neighbor's pay; below 0 from {_share(needed)} on (V = {rules.validators})"
    axes.set(xlabel="probability that a validator rejects", ylabel="expected pay, before costs (r)", title=title)
    axes.legend(fontsize=8, ncols=2)
    axes.grid(alpha=0.3)


def _coalition_plot(axes: "Axes", rules: ParameterSet, assume: Assumptions) -> None:
    shares = [n / 100 for n in range(101)]
    looks = {
        Scheme.POISON: ("#d55e00", "-"),
        Scheme.ROB: ("#0072b2", "--"),
        Scheme.ALL_NO: ("#009e73", "-."),
        Scheme.ALL_YES: ("#cc79a7", ":"),
    }
    for scheme, (colour, line) in looks.items():
        profits = [share_profit(scheme, share, rules, assume) for share in shares]
        at = _share(break_even_share(scheme, rules, assume))
        axes.plot(shares, profits, color=colour, linestyle=line, linewidth=1.8, label=f"{scheme.value} (from {at})")
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set(xlabel="share of all seats held", ylabel="expected profit per encounter (r)")
    axes.set_title("coalitions, and from which share they pay")
    axes.set_ylim(bottom=axes.get_ylim()[0] - 0.6)
    axes.legend(fontsize=7.5, loc="lower right")
    axes.grid(alpha=0.3)


def _fill(axes: "Axes", x: Sequence[float], y: Sequence[float], points: Sequence[Sequence[_Point]]) -> None:
    from matplotlib.colors import BoundaryNorm, ListedColormap  # noqa: PLC0415  (see `draw`)

    colours = ListedColormap(["white", *(colour for _, colour, _ in _KINDS)])
    kinds = [[kind for kind, _ in row] for row in points]
    levels = BoundaryNorm([number - 1.5 for number in range(len(_KINDS) + 2)], len(_KINDS) + 1)
    extent = (x[0], x[-1], y[0], y[-1])
    axes.imshow(kinds, origin="lower", aspect="auto", extent=extent, cmap=colours, norm=levels, interpolation="nearest")
    for number, (_, _, hatch) in enumerate(_KINDS):
        mask = [[float(kind == number) for kind in row] for row in kinds]
        if hatch and any(any(row) for row in mask):
            axes.contourf(x, y, mask, levels=[0.5, 1.5], colors="none", hatches=[hatch])
    margins = [[margin if kind == 0 else nan for kind, margin in row] for row in points]
    widest = max((margin for row in points for kind, margin in row if kind == 0), default=0.0)
    shown = [level for level in _MARGINS if level < widest]
    if shown:
        lines = axes.contour(x, y, margins, levels=shown, colors="black", linewidths=0.8)
        axes.clabel(lines, fmt="%g", fontsize=7.5)


def _mark(axes: "Axes", x: float, y: float, label: str, marker: str) -> None:
    axes.plot([x], [y], marker, color="white", markeredgecolor="black", markersize=9, zorder=5, clip_on=False)
    box = {"boxstyle": "round,pad=0.2", "facecolor": "white", "alpha": 0.85, "linewidth": 0}
    axes.annotate(label, (x, y), xytext=(8, -12), textcoords="offset points", bbox=box, zorder=6)


def _legend(figure: "Figure") -> None:
    from matplotlib.patches import Patch  # noqa: PLC0415  (see `draw`)

    boxes = [Patch(facecolor=colour, hatch=hatch, label=name) for name, colour, hatch in _KINDS]
    figure.legend(handles=boxes, loc="outside lower center", ncols=3, title=_LEGEND)


def _point(rules: ParameterSet, assume: Assumptions) -> _Point:
    found = aside(conditions(rules, assume))
    return _kind({one.concern for one in found if not one.holds}), least(found).margin


def _kind(failing: set[Concern]) -> int:
    if Concern.WORTH_VOTING in failing:
        return 1
    if Concern.BEST_VOTE in failing:
        return 2
    if Concern.WORK in failing:
        return 3
    if Concern.COALITION in failing:
        return 4
    return 5 if failing else 0


def _paying(rules: ParameterSet, *, pv: float, q: float, bond: float | None = None) -> ParameterSet:
    share = round(pv * BPS)
    locked = rules.bond_bps if bond is None else round(bond * BPS)
    return replace(rules, pn_bps=BPS - share, q_bps=round(q * BPS), bond_bps=max(locked, share))


def _fee_when_rejected(parameters: ParameterSet, assume: Assumptions, rejecting: float) -> float:
    """A Neighbor's pay, before its costs, if each validator rejects with this probability."""
    point = replace(assume, false_alarm=0.0, accident=0.0, tolerated=1 - rejecting, miss=0.0)
    return contributing_profit(Contributing.FREE_RIDE, parameters, point)


def _share(value: float | None) -> str:
    return "never" if value is None else f"{value:.3f}"


def _error(assume: Assumptions) -> str:
    same = assume.false_alarm == assume.miss
    return f"{assume.false_alarm:g}" if same else f"{assume.false_alarm:g}/{assume.miss:g}"

"""The results as one picture: how fast, how it grows with threads, how near to the limit.

Colours are Okabe and Ito's, which colour-blind people tell apart; no meaning hangs on colour alone.
"""

from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from bench.results import Results, Row
from bench.scaling import scaling
from bench.table import processor
from bench.units import digits, hash_rate, percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9")
INK, FAINT = "#222222", "#bbbbbb"

MISSING = "matplotlib is not installed: pip install 'nonceforge[bench]'"


def available() -> bool:
    """Whether pictures can be drawn here."""
    from importlib.util import find_spec

    return find_spec("matplotlib") is not None


def save(results: Results, path: Path) -> None:
    """Write the picture as PNG. ValueError without matplotlib or without any rate."""
    path.write_bytes(png(results))


def png(results: Results) -> bytes:
    """The picture, PNG."""
    if not available():
        raise ValueError(MISSING)
    if not results.main_rows:
        raise ValueError("no device has a rate: there is nothing to draw")
    buffer = BytesIO()
    figure = draw(results)
    figure.savefig(buffer, format="png", dpi=150, facecolor="white")
    return buffer.getvalue()


def draw(results: Results) -> "Figure":
    """The figure; no window is opened and no global state of matplotlib's is touched."""
    from matplotlib.figure import Figure

    rows = results.main_rows
    figure = Figure(figsize=(10, 3.4 + 0.42 * len(rows)), layout="constrained")
    grid = figure.add_gridspec(2, 2, height_ratios=[1.1 + 0.42 * len(rows), 2.6])
    _rates(figure.add_subplot(grid[0, :]), rows)
    left, right = figure.add_subplot(grid[1, 0]), figure.add_subplot(grid[1, 1])
    _scaling(left, results)
    _limits(right, rows)
    figure.suptitle("Hash rate by backend", x=0.012, ha="left", fontsize=15, fontweight="bold", color=INK)
    machine = results.machine
    where = [processor(machine).partition(";")[0], *(gpu.split(",")[0] for gpu in machine.gpus)]
    footer = f"{'; '.join(where)}  ·  {results.created[:10]}  ·  commit {machine.commit[:12] or 'unknown'}"
    figure.supxlabel(footer, fontsize=8, color="#666666", x=0.988, ha="right")
    return figure


def _rates(axes: "Axes", rows: tuple[Row, ...]) -> None:
    """A point with its 95 % interval per backend; the lines begin at the lowest rate of all."""
    slowest = min(row.rate.low for row in rows)
    reference = next((row.rate.value for row in rows if row.backend == "python"), None)
    for place, row in enumerate(rows):
        rate, colour = row.rate, COLOURS[place % len(COLOURS)]
        axes.hlines(place, slowest, rate.value, color=colour, linewidth=7, alpha=0.35)
        error = [[rate.value - rate.low], [rate.high - rate.value]]
        axes.errorbar(rate.value, place, xerr=error, fmt="o", color=colour, ms=8, capsize=4, ecolor=INK)
        factor = ""
        if reference and row.backend != "python":
            factor = f"   {digits(rate.value / reference)} × python"
        note = "" if row.health == "clean" else f"   ({row.health})"
        text = f"{hash_rate(rate.value)}{factor}{note}"
        axes.annotate(text, (rate.high, place), (9, 0), textcoords="offset points", va="center", color=INK)
    axes.set_xscale("log")
    # Room for the labels to the right of the fastest, in proportion on a scale of logarithms.
    fastest = rows[-1].rate.high
    axes.set_xlim(slowest / 1.6, fastest * max(30, (fastest / slowest) ** 0.6))
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.set_yticks(range(len(rows)), [row.backend for row in rows], fontsize=11, color=INK)
    axes.xaxis.set_major_formatter(lambda rate, _: hash_rate(rate).replace(".00", "").replace(".0", ""))
    axes.set_xlabel("each grid line is ten times the one before", color=INK)
    _plain(axes)
    axes.minorticks_off()
    axes.grid(axis="x", color="#dddddd")
    axes.set_axisbelow(True)


def _scaling(axes: "Axes", results: Results) -> None:
    axes.set_title("scaling by threads", loc="left", fontsize=11, color=INK)
    _plain(axes)
    swept = [row for row in results.rows if row.sweep == "threads"]
    if len({row.threads for row in swept}) < 2:
        _say(axes, "not measured\n(python -m bench --sweep threads)")
        return
    most = max(row.threads for row in swept)
    axes.plot([1, most], [1, most], color=FAINT, linestyle="--", label="ideal")
    for place, backend in enumerate(dict.fromkeys(row.backend for row in swept)):
        found = scaling(sorted((r for r in swept if r.backend == backend), key=lambda row: row.threads))
        threads, rates = [one.threads for one in found], [one.interval for one in found]
        low_high = [[rate.value - rate.low for rate in rates], [rate.high - rate.value for rate in rates]]
        colour, marker = _colour(results, backend), "osD^v"[place % 5]
        speedup = [rate.value for rate in rates]
        axes.errorbar(threads, speedup, low_high, label=backend, color=colour, marker=marker, capsize=3)
        full = [(one.threads, one.rate_when_full) for one in found[1:] if one.rate_when_full]
        if full:
            label = "" if place else "where full"
            axes.plot(*zip(*full, strict=True), marker, color=colour, mfc="none", ms=10, label=label)
        machine = [one.machine for one in found if one.machine]
        if place == 0 and machine:
            # What the cores had to give at the time: two hyperthreads of one core are not two cores.
            axes.plot(threads, machine, color=FAINT, linestyle=":", marker="x", label="yardsticks beside it")
    axes.set_xticks(sorted({row.threads for row in swept}))
    axes.set_ylim(bottom=0)
    axes.set_xlabel("threads", color=INK)
    axes.set_ylabel("times one thread", color=INK)
    axes.legend(frameon=False, fontsize=9)


def _colour(results: Results, backend: str) -> str:
    """The same in every panel."""
    names = [row.backend for row in results.main_rows]
    return COLOURS[names.index(backend) % len(COLOURS)] if backend in names else INK


def _limits(axes: "Axes", rows: tuple[Row, ...]) -> None:
    axes.set_title("share of the modelled hardware limit", loc="left", fontsize=11, color=INK)
    _plain(axes)
    shares = [(row, row.share) for row in rows if row.share is not None]
    if not shares:
        _say(axes, "no model for these backends")
        return
    for place, (row, share) in enumerate(shares):
        axes.barh(place, 100 * share, height=0.55, color=COLOURS[rows.index(row) % len(COLOURS)])
        axes.annotate(percent(share), (100 * share, place), (5, 0), textcoords="offset points", va="center")
    axes.axvline(100, color=INK, linestyle="--")
    axes.set_yticks(range(len(shares)), [row.backend for row, _ in shares], color=INK)
    axes.set_ylim(-0.6, max(len(shares), 3) - 0.4)
    axes.set_xlim(0, max(118.0, *(100 * share + 15 for _, share in shares)))
    axes.set_xlabel("% of what a model of its instructions allows", color=INK)


def _plain(axes: "Axes") -> None:
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.tick_params(length=0)


def _say(axes: "Axes", text: str) -> None:
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color="#777777")
    axes.set_xticks([])
    axes.set_yticks([])

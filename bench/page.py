"""The results as one HTML page that needs nothing beside it: the picture is inside, nothing is fetched."""

import base64
import html
from collections.abc import Iterable
from pathlib import Path

from bench import plot
from bench.results import Results, Row, dumps
from bench.sweep_table import sweep_tables
from bench.table import ONE_HASH, identity
from bench.units import (
    DIFFICULTY_1,
    duration,
    energy,
    hash_rate,
    percent,
    settings,
    spread,
    times,
)

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --quiet: #777; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; }
.wide { overflow-x: auto; } img { max-width: 100%; background: #fff; border-radius: 6px; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .6rem; border-bottom: 1px solid var(--line); text-align: right; }
th, td { white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
td:has(i), th:has(i) { text-align: left; white-space: normal; } i { font-style: normal; }
.clean::before { content: "✓ "; } .noisy::before, .shared::before, .throttled::before { content: "! "; }
.failed { color: #d33; } small, .quiet { color: var(--quiet); } h2 { margin-top: 2.2rem; }
"""


def save(results: Results, path: Path) -> None:
    """Write the page."""
    path.write_text(page(results), encoding="utf-8")


def page(results: Results) -> str:
    """The whole page. Without matplotlib it has no picture and says so."""
    return "\n".join(
        [
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>Hash rates, {_text(results.created[:10])}</title><style>{_STYLE}</style></head><body>",
            f"<h1>Hash rate by backend</h1><p class=quiet>{_text(identity(results)[0])} · "
            f"{_text(results.created)}</p>",
            _picture(results),
            f"<p>{ONE_HASH}</p>",
            _table(_RATE_HEAD, (_rate_cells(row, results) for row in results.main_rows)),
            *_sweeps(results),
            "<h2>Proof</h2><p>No rate is printed unless the timed scans returned exactly the hits that the "
            "reference knows of (docs/bench.md says what that shows).</p>",
            _table(_PROOF_HEAD, (_proof_cells(row) for row in results.main_rows)),
            "<h2>How it was measured</h2>",
            _table(_METHOD_HEAD, (_method_cells(row) for row in results.main_rows)),
            *_refused(results),
            "<h2>Where</h2><ul>",
            *(f"<li>{_text(line)}</li>" for line in (*identity(results), *results.notes)),
            "</ul><details><summary>All of it, as JSON</summary>",
            f"<pre>{_text(dumps(results))}</pre></details></body></html>\n",
        ]
    )


_RATE_HEAD = "backend|hash rate|±|vs python|per thread|of limit|J/GH|difficulty-1 block|state".split("|")


def _rate_cells(row: Row, results: Results) -> list[str]:
    rate, reference = row.rate.value, results.row("python")
    return [
        f"<b>{_text(row.backend)}</b><br><small>{_text(settings(row))}</small>",
        f"<b>{hash_rate(rate)}</b>",
        spread(row.rate),
        times(rate / reference.rate.value) if reference else "",
        hash_rate(rate / row.threads) if row.threaded else "",
        percent(row.share)
        if row.share is not None
        else f'<span title="{_text(row.limit_reason)}">n/a</span>',
        f'<span title="{_text(row.energy_reason)}">{energy(row)}</span>',
        duration(DIFFICULTY_1 / rate),
        f'<span class="{row.health}" title="{_text(row.health_reason)}">{row.health}</span>',
    ]


_PROOF_HEAD = "backend|timed hits|missing|extra|checked|<i>by</i>|dense hits|real blocks|count".split("|")


def _proof_cells(row: Row) -> list[str]:
    proof = row.proof
    return [
        f"<b>{_text(row.backend)}</b>",
        f"{proof.expected - proof.missing:,}/{proof.expected:,}",
        f"{proof.missing}",
        f"{proof.extra}",
        percent(proof.checked),
        f"<i>{_text(proof.reference)}</i>",
        f"{proof.dense_expected - proof.dense_missing:,}/{proof.dense_expected:,}",
        f"{proof.blocks_found}/{proof.blocks}",
        f"{proof.score:+.1f} σ",
    ]


_METHOD_HEAD = "backend|<i>form</i>|rounds|CV|outliers|ready after|first scan|hashes per scan".split("|")


def _method_cells(row: Row) -> list[str]:
    limit = f"limit {hash_rate(row.limit.rate)}: {row.limit.model}" if row.limit else row.limit_reason
    return [
        f"<b>{_text(row.backend)}</b>",
        f"<i>{_text(row.form)}</i><br><small>{_text(limit)}</small>",
        f"{len(row.rounds)}",
        f"{row.variation:.1%}",
        f"{row.outliers}",
        duration(row.open_seconds),
        duration(row.first_seconds),
        f"{row.batch:,}",
    ]


def _sweeps(results: Results) -> list[str]:
    parts = []
    for sweep in sweep_tables(results):
        cells = ([_text(cell) for cell in row] for row in sweep.rows)
        parts += [f"<h2>By {sweep.kind}</h2>", _table(["backend", sweep.kind, *sweep.headings], cells)]
        parts += [f"<p class=quiet>{_text(sweep.caption)}</p>"] if sweep.caption else []
    return parts


def _refused(results: Results) -> list[str]:
    if not results.refused:
        return []
    lines = (
        f"<li><b>{_text(refused.backend)}</b> "
        + ('<span class="failed">failed</span>' if refused.failed else "not available")
        + f": {_text(refused.reason)}</li>"
        for refused in results.refused
    )
    return ["<h2>Without a rate</h2><ul>", *lines, "</ul>"]


def _picture(results: Results) -> str:
    try:
        data = base64.b64encode(plot.png(results)).decode()
    except ValueError as error:
        return f"<p class=quiet>No picture: {_text(str(error))}</p>"
    return f'<img alt="Hash rates on a logarithmic scale" src="data:image/png;base64,{data}">'


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    heading = "".join(f"<th>{cell}</th>" for cell in head)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>" for cells in rows)
    return f'<div class="wide"><table><tr>{heading}</tr>{body}</table></div>'


def _text(text: str) -> str:
    return html.escape(text)

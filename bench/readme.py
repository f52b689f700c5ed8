"""The README's table, written from a results file and never by hand."""

from pathlib import Path

from bench.results import Results
from bench.table import processor
from bench.units import hash_rate, percent, settings, spread, times

BEGIN, END = "<!-- bench:begin -->", "<!-- bench:end -->"
"""What stands between them in the README is replaced."""


def update(readme: Path, results: Results, source: str) -> bool:
    """Replace the table; whether that changed anything. ValueError if the README has no place for it.

    `source` names the results file.
    """
    text = readme.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{readme} has no {BEGIN} ... {END} to write the table between")
    new = f"{before}{BEGIN}\n{markdown(results, source)}{END}{after}"
    if new != text:
        readme.write_text(new, encoding="utf-8")
    return new != text


def markdown(results: Results, source: str) -> str:
    """The table, fastest first, and what it belongs to. ValueError if no device has a rate."""
    rows = results.main_rows
    if not rows:
        raise ValueError(f"{source} holds no rate")
    reference = results.row("python")
    lines = [
        "| backend | hash rate | 95 % | × python | of limit | verified |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for row in reversed(rows):
        factor = times(row.rate.value / reference.rate.value).removesuffix(" x") if reference else ""
        share = percent(row.share) if row.share is not None else ""
        hits = f"{row.proof.expected:,} hits"
        cells = (
            f"`{row.backend}` ({settings(row) or row.form})",
            f"**{hash_rate(row.rate.value)}**",
            spread(row.rate),
            factor,
            share,
            hits,
        )
        lines.append(f"| {' | '.join(cells)} |")
    machine = results.machine
    where = "; ".join([processor(machine), *machine.gpus])
    commit = f"commit {machine.commit[:12]}" + (" with changes" if machine.dirty else "")
    lines += ["", f"{where}. {results.created[:10]}, {commit or 'no commit'}; from [{source}]({source})."]
    return "\n".join(lines) + "\n"

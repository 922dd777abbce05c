"""A report as one HTML file that needs nothing else: tables, confusion matrix, reliability, bars, mistakes."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence

import numpy as np

from zeroshot.contact_sheet import thumbnail
from zeroshot.errors import ImageError
from zeroshot.evaluate.evaluation import Evaluation
from zeroshot.evaluate.metrics import LabelFigures
from zeroshot.evaluate.records import SingleRecords
from zeroshot.evaluate.tally import Result
from zeroshot.evaluate.text_report import about, headline
from zeroshot.images import ImageLimits
from zeroshot.learning.diagram import reliability_diagram

_MATRIX = 40  # most labels of which the whole matrix is drawn
_BARS = 100  # labels that bars are drawn of
_LISTED = 15

_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; font: 15px/1.45 system-ui, sans-serif; }}
body {{ margin: 2rem auto; max-width: 72rem; padding: 0 1rem; }}
h1 {{ font-size: 1.5rem; }}
h2 {{ font-size: 1.1rem; margin: 2.2rem 0 .6rem; }}
table {{ border-collapse: collapse; }}
td, th {{ padding: .2rem .7rem .2rem 0; text-align: left; vertical-align: top; }}
th {{ font-weight: 600; }}
.big td:nth-child(2) {{ font-weight: 600; font-variant-numeric: tabular-nums; }}
.pair {{ display: flex; flex-wrap: wrap; gap: 0 3rem; }}
.pair section {{ max-width: 100%; }}
.matrix {{ font-size: .75rem; overflow-x: auto; }}
.matrix td, .matrix th {{ padding: .15rem .3rem; text-align: right; }}
.matrix thead th {{ writing-mode: vertical-rl; transform: rotate(180deg); text-align: left; }}
.bars td {{ padding-top: .1rem; padding-bottom: .1rem; font-variant-numeric: tabular-nums; }}
.bar {{ width: 16rem; }}
.bar i {{ display: block; height: .8rem; background: #3b76af; border-radius: 2px; }}
.sheet {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(150px, 1fr)); gap: 1rem; }}
figure {{ margin: 0; }}
figure div {{ aspect-ratio: 1; display: grid; place-items: center; background: #8882; border-radius: 6px; }}
figure img {{ width: 100%; height: 100%; object-fit: contain; border-radius: 6px; min-height: 0; }}
figcaption {{ font-size: .8rem; overflow-wrap: anywhere; margin-top: .3rem; }}
.wrong {{ color: #c33; }}
.note {{ opacity: .75; }}
img.plot {{ max-width: 100%; background: white; border-radius: 6px; }}
</style>
<h1>{title}</h1>
{parts}
</html>
"""


def to_html(result: Result, limits: ImageLimits | None) -> str:
    """Give the whole report."""
    found = result.evaluation
    parts = [_rows(headline(found), "big"), "<h2>What was run</h2>", _rows(about(found), "")]
    if isinstance(result.records, SingleRecords):
        parts += _single(result, result.records)
    parts += _bars(found.labels)
    parts += _groups(found) + _robustness(found)
    if result.worst and limits is not None:
        parts += ["<h2>Most confident mistakes</h2>", _mistakes(result, limits)]
    if found.dataset.problems:
        parts += ["<h2>Could not be used</h2>", _table(("what", "why"), found.dataset.problems)]
    title = html.escape(f"{found.dataset.name} with {found.model.spec}")
    return _PAGE.format(title=title, parts="\n".join(parts))


def _single(result: Result, records: SingleRecords) -> list[str]:
    found = result.evaluation
    diagram = reliability_diagram([("all answers", np.clip(records.confidence, 0, 1), records.hits)])
    picture = base64.b64encode(diagram).decode()
    parts = ['<div class="pair"><section>', "<h2>How often answers of each confidence are right</h2>"]
    parts += [f'<img class="plot" alt="reliability diagram" src="data:image/png;base64,{picture}">', "</section>"]
    if found.confusion is None:
        return [*parts, "</div>"]
    parts.append("<section><h2>Confusion</h2>")
    if len(result.names) <= _MATRIX:
        parts.append(_matrix(found, result.names))
    parts.append("</section>")
    wrong = [pair for pair in found.confusion.pairs if pair[0] != pair[1]][:_LISTED]
    if wrong and len(result.names) > 2:
        parts.append("<section><h2>Most frequent confusions</h2>")
        parts.append(_table(("right", "answer", "pictures"), [(r, a, f"{n:,}") for r, a, n in wrong]))
        parts.append("</section>")
    return [*parts, "</div>"]


def _matrix(found: Evaluation, names: Sequence[str]) -> str:
    """Rows are right labels, columns answers; the darker, the larger the share of its row."""
    counts = {(right, answer): count for right, answer, count in (found.confusion.pairs if found.confusion else [])}
    totals = {name: sum(count for (right, _), count in counts.items() if right == name) for name in names}
    shown = [name for name in names if totals[name] or any((right, name) in counts for right in names)]
    head = "".join(f"<th>{html.escape(name)}</th>" for name in shown)
    lines = []
    for right in shown:
        cells = []
        for answer in shown:
            count = counts.get((right, answer), 0)
            share = count / totals[right] if totals[right] else 0.0
            colour = "59,118,175" if right == answer else "200,60,60"
            style = f' style="background:rgba({colour},{share:.2f})"' if count else ""
            cells.append(f"<td{style}>{count or ''}</td>")
        lines.append(f"<tr><th>{html.escape(right)}</th>{''.join(cells)}</tr>")
    return f'<div class="matrix"><table><thead><tr><th></th>{head}</tr></thead>{"".join(lines)}</table></div>'


def _bars(labels: Sequence[LabelFigures]) -> list[str]:
    if not labels:
        return []
    ranked = sorted((one for one in labels if one.pictures), key=lambda one: (-one.f1, one.label))
    note = ""
    if len(ranked) > _BARS:
        ranked = [*ranked[: _BARS // 2], *ranked[-_BARS // 2 :]]
        note = f"<p class=note>The best and the worst {_BARS // 2}; the others are in report.md.</p>"
    lines = [
        f"<tr><td>{html.escape(one.label)}</td><td class=bar><i style='width:{100 * one.f1:.1f}%'></i></td>"
        f"<td>{one.f1:.3f}</td><td>{one.precision:.3f}</td><td>{one.recall:.3f}</td><td>{one.pictures:,}</td></tr>"
        for one in ranked
    ]
    head = "<tr><th>label</th><th></th><th>F1</th><th>precision</th><th>recall</th><th>pictures</th></tr>"
    return ["<h2>Labels</h2>", note, f'<table class="bars">{head}{"".join(lines)}</table>']


def _groups(found: Evaluation) -> list[str]:
    if not found.groups:
        return []
    rows = [(one.group, f"{one.pictures:,}", f"{one.accuracy:.4f}") for one in found.groups]
    return ["<h2>Groups</h2>", _table(("group", "pictures", "accuracy"), rows)]


def _robustness(found: Evaluation) -> list[str]:
    if not found.robustness:
        return []
    lines = [
        f"<tr><td>{html.escape(one.change)} {one.level:g}</td>"
        + f"<td class=bar><i style='width:{100 * one.accuracy:.1f}%'></i></td><td>{one.accuracy:.4f}</td>"
        + f"<td>{one.relative:.3f}</td><td>{html.escape(one.note)}</td></tr>"
        for one in found.robustness
    ]
    head = "<tr><th>change</th><th></th><th>accuracy</th><th>of unchanged</th><th></th></tr>"
    return ["<h2>Robustness</h2>", f'<table class="bars">{head}{"".join(lines)}</table>']


def _mistakes(result: Result, limits: ImageLimits) -> str:
    figures = []
    for mistake, sample in result.worst:
        try:
            picture = f'<img alt="" src="{thumbnail(sample.source, limits)}">'
        except ImageError as error:
            picture = html.escape(error.message)
        said = f'<span class="wrong">{html.escape(", ".join(mistake.answer))}</span> {mistake.confidence:.2f}'
        right = html.escape(", ".join(mistake.truth))
        name = html.escape(sample.key.rpartition("/")[2])
        figures.append(
            f"<figure><div>{picture}</div><figcaption>{said}<br>is {right}<br>"
            f'<span class="note">{name}</span></figcaption></figure>'
        )
    return f'<div class="sheet">{"".join(figures)}</div>'


def _rows(rows: Sequence[tuple[str, str]], kind: str) -> str:
    lines = "".join(f"<tr><td>{html.escape(what)}</td><td>{html.escape(value)}</td></tr>" for what, value in rows)
    return f'<table class="{kind}">{lines}</table>'


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    top = "".join(f"<th>{html.escape(cell)}</th>" for cell in head)
    lines = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr>{top}</tr>{lines}</table>"

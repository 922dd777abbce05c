"""Reports: report.html for people, report.md and report.json with the same, predictions.csv with every answer.

What a report says is one list of sections, which is written as Markdown and as HTML.
"""

from __future__ import annotations

import csv
import hashlib
import html
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from zeroshot import html_page
from zeroshot.errors import DatasetError, OptionError
from zeroshot.evaluate.compare import PREDICTIONS
from zeroshot.evaluate.metrics import Interval
from zeroshot.evaluate.records import MultiRecords, SingleRecords
from zeroshot.evaluate.result import Confusion, Evaluation, Mistake, Result
from zeroshot.images import ImageLimits, ImageSource
from zeroshot.learning.diagram import reliability_diagram

FILES = ("report.html", "report.md", PREDICTIONS, "report.json")
_MAX_MATRIX = 40  # labels of which the whole matrix is drawn
_MAX_ROWS = 100  # of a ranked table in HTML
_CONFUSIONS = 20


@dataclass(frozen=True)
class Table:
    """Rows of text, of which a column of numbers from 0 to 1 may be drawn as bars, best first."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    bars: int | None = None


@dataclass(frozen=True)
class Section:
    """A part of a report; HTML shows its figure, if it has one, instead of its table, and Markdown its table."""

    title: str
    table: Table | None = None
    figure: str = ""


def check_folder(folder: Path) -> None:
    """Refuse, before any work is done, a folder in which a report would overwrite something."""
    if folder.exists() and not folder.is_dir():
        raise OptionError(f"{folder} is a file.", "Name a new folder, or one with an earlier report.", field="report")
    others = [path.name for path in folder.iterdir() if path.name not in FILES] if folder.is_dir() else []
    if others:
        raise OptionError(
            f"{folder} holds {others[0]}, which is no part of a report.",
            "Name a new folder, or one with an earlier report.",
            field="report",
        )


def write_report(result: Result, folder: Path, limits: ImageLimits | None) -> None:
    """Write a report; report.json comes last, so that where it is the rest is whole.

    Parameters
    ----------
    result : Result
        What was measured.
    folder : Path
        Of ``check_folder``; an earlier report in it is replaced.
    limits : ImageLimits or None
        Limits on the images that are shown; None shows none.

    Raises
    ------
    DatasetError
        If it cannot be written.
    """
    answers = predictions(result).encode()
    found = result.evaluation
    found.predictions_sha256 = hashlib.sha256(answers).hexdigest()
    title, sections = f"{found.dataset.name} with {found.model.spec}", list(to_sections(result, limits))
    contents = {
        "report.html": to_html(title, sections).encode(),
        "report.md": to_markdown(title, sections).encode(),
        PREDICTIONS: answers,
        "report.json": (found.model_dump_json(indent=1) + "\n").encode(),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "report.json").unlink(missing_ok=True)
        for name, content in contents.items():
            partial = folder / f".{name}.partial"
            partial.write_bytes(content)
            partial.replace(folder / name)
    except OSError as error:
        raise DatasetError(
            f"The report cannot be written to {folder}: {error.strerror}.", "Name a folder that can be written."
        ) from error


def predictions(result: Result) -> str:
    """Give every answer as CSV: file, label, prediction, confidence, hit."""
    content = io.StringIO()
    writer = csv.writer(content, lineterminator="\n")
    writer.writerow(["file", "label", "prediction", "confidence", "hit"])
    names, records = result.names, result.records
    if isinstance(records, SingleRecords):
        for row, key in enumerate(records.keys):
            best = int(records.top[row, 0])
            hit = int(best == records.truth[row])
            writer.writerow([key, names[records.truth[row]], names[best], f"{records.confidence[row]:.6f}", hit])
    elif isinstance(records, MultiRecords):
        for row, key in enumerate(records.keys):
            truth, chosen = (np.flatnonzero(one[row]) for one in (records.truth, records.chosen))
            given = "|".join(names[column] for column in chosen)
            confidence = f"{records.scores[row].max():.6f}"
            hit = int(set(truth) == set(chosen))
            writer.writerow([key, "|".join(names[column] for column in truth), given, confidence, hit])
    return content.getvalue()


def to_sections(result: Result, limits: ImageLimits | None) -> Iterator[Section]:
    """Give what a report says, in order."""
    found = result.evaluation
    yield Section("", Table(("", ""), headline(found)))
    yield Section("What was run", Table(("", ""), about(found)))
    if isinstance(result.records, SingleRecords):
        panel = ("all answers", np.clip(result.records.confidence, 0, 1), result.records.hits)
        diagram = html_page.plot(reliability_diagram([panel]), "reliability diagram")
        yield Section("How often answers of each confidence are right", figure=diagram)
    if found.figures is not None:
        ranked = sorted(found.figures.labels, key=lambda one: (-one.f1, one.label))
        rows = [(one.label, f"{one.images:,}", *_three(one.precision, one.recall, one.f1)) for one in ranked]
        yield Section("Labels", Table(("label", "images", "precision", "recall", "F1"), rows, bars=4))
    if found.confusion is not None:
        if len(result.names) <= _MAX_MATRIX:
            yield Section("Confusion", figure=_matrix(found.confusion, result.names))
        if wrong := found.confusion.wrong[:_CONFUSIONS]:
            rows = [(right, answer, f"{count:,}") for right, answer, count in wrong]
            yield Section("Most frequent confusions", Table(("right", "answer", "images"), rows))
    if found.figures is not None and found.figures.groups:
        rows = [(one.group, f"{one.images:,}", f"{one.accuracy:.4f}") for one in found.figures.groups]
        yield Section("Groups", Table(("group", "images", "accuracy"), rows))
    if found.robustness:
        rows = [
            (one.change, f"{one.level:g}", f"{one.accuracy:.4f}", f"{one.relative:.3f}", one.note)
            for one in found.robustness
        ]
        yield Section("Robustness", Table(("change", "level", "accuracy", "relative", ""), rows, bars=2))
    if found.mistakes:
        rows = [
            (one.key, ", ".join(one.truth), ", ".join(one.answer), f"{one.confidence:.3f}") for one in found.mistakes
        ]
        shown = [] if limits is None else [_figure(one, sample.source, limits) for one, sample in result.worst]
        figure = html_page.sheet(shown) if shown else ""
        yield Section("Most confident mistakes", Table(("image", "right", "answer", "confidence"), rows), figure)
    if found.dataset.problems:
        yield Section("Could not be used", Table(("what", "why"), found.dataset.problems))


def to_html(title: str, sections: Sequence[Section]) -> str:
    """Write sections as a page."""
    parts = []
    for section in sections:
        if section.title:
            parts.append(f"<h2>{html.escape(section.title)}</h2>")
        if section.figure or section.table is None:
            parts.append(section.figure)
            continue
        head, rows, bars = section.table.head, section.table.rows, section.table.bars
        if bars is not None and len(rows) > _MAX_ROWS:
            half = _MAX_ROWS // 2
            parts.append(f'<p class="note">The first and the last {half}; the others are in report.md.</p>')
            rows = [*rows[:half], *rows[-half:]]
        parts.append(html_page.table(head, rows, bars=bars, kind="" if section.title else "headline"))
    return html_page.page(title, "\n".join(parts))


def to_markdown(title: str, sections: Sequence[Section]) -> str:
    """Write sections as Markdown; figures are left out."""
    parts = [f"# {title}"]
    for section in sections:
        if section.table is not None:
            lines = [section.table.head, ["---"] * len(section.table.head), *section.table.rows]
            parts += [f"## {section.title}"] if section.title else []
            parts.append("\n".join(f"| {' | '.join(map(_escape, line))} |" for line in lines))
    return "\n\n".join(parts) + "\n"


def to_lines(found: Evaluation) -> Iterator[str]:
    """Give a summary for a terminal."""
    rows = [*about(found)[:-2], *headline(found)]
    for row in found.robustness:
        note = f"  {row.note}" if row.note else ""
        rows.append((f"{row.change} {row.level:g}", f"{row.accuracy:.4f}, {row.relative:.3f} of unchanged{note}"))
    width = max(len(what) for what, _ in rows)
    yield from (f"{what:{width}}  {value}" for what, value in rows)


def headline(found: Evaluation) -> list[tuple[str, str]]:
    """Give the figures that come first."""
    rows: list[tuple[str, str]] = []
    if (single := found.single) is not None:
        rows.append(("top-1", _interval(single.top_1)))
        if single.top_5 is not None:
            rows.append(("top-5", f"{single.top_5:.4f}"))
        rows.append(("mean per-class recall", _interval(single.mean_per_class_recall)))
        rows.append(("macro precision, recall", f"{single.macro_precision:.4f}, {single.macro_recall:.4f}"))
        rows.append(("macro F1", _interval(single.macro_f1)))
        rows.append(("weighted F1", f"{single.weighted_f1:.4f}"))
        if single.answered < 1 and single.accuracy_where_answered is not None:
            answered = f"{single.answered:.1%}, of which {single.accuracy_where_answered:.4f} are right"
            rows.append(("answered rather than unknown", answered))
        if single.roc_auc is not None and single.average_precision is not None:
            rows.append(("ROC-AUC, average precision", f"{single.roc_auc:.4f}, {single.average_precision:.4f}"))
        rows.append(("ECE, NLL, Brier", f"{single.ece:.4f}, {single.nll:.4f}, {single.brier:.4f}"))
    if (multi := found.multi) is not None:
        rows.append(("mean average precision", _interval(multi.mean_average_precision)))
        rows.append(("micro F1", _interval(multi.micro_f1)))
        rows.append(("macro F1", _interval(multi.macro_f1)))
        rows.append(("micro precision, recall", f"{multi.micro_precision:.4f}, {multi.micro_recall:.4f}"))
        rows.append(("exact match", f"{multi.exact_match:.4f}"))
    if (tree := found.tree) is not None:
        rows.append(("right node; right or coarser", f"{tree.exact:.4f}; {tree.right_or_coarser:.4f}"))
        parts = (tree.hierarchical_precision, tree.hierarchical_recall, tree.hierarchical_f1)
        rows.append(("hierarchical precision, recall, F1", ", ".join(f"{one:.4f}" for one in parts)))
        steps = f"{tree.mean_steps:.3f} (of the likeliest leaf {tree.flat_mean_steps:.3f})"
        rows.append(("steps to the right node", steps))
    if (retrieval := found.retrieval) is not None:
        for what, figures in (("image by caption", retrieval.text_to_image), ("caption", retrieval.image_to_text)):
            rows.append((what, ", ".join(f"{name} {value:.4f}" for name, value in figures.items())))
    if found.figures is not None and found.figures.worst_gap is not None:
        ranked = sorted(found.figures.groups, key=lambda one: one.accuracy)
        ends = ", ".join(f"{one.group} {one.accuracy:.4f}" for one in (ranked[0], ranked[-1]))
        rows.append(("worst gap between groups", f"{found.figures.worst_gap:.4f} ({ends})"))
    if (check := found.published) is not None:
        published = f"published {check.published:.4f} (+-{check.tolerance:.4f}; {check.source})"
        verdict = "as published" if check.agrees else "NOT as published"
        rows.append((verdict, f"{check.measured:.4f}, {published}"))
    return rows


def about(found: Evaluation) -> list[tuple[str, str]]:
    """Say what was run."""
    run, dataset = found.run, found.dataset
    rows = [("dataset", f"{dataset.name}: {dataset.origin}"), ("images", f"{dataset.images:,}")]
    if dataset.empty_classes:
        rows.append(("classes without images", ", ".join(dataset.empty_classes[:10])))
    if dataset.unknown_labels:
        total, names = sum(dataset.unknown_labels.values()), ", ".join(list(dataset.unknown_labels)[:5])
        rows.append(("labels not in the set", f"{total:,} images, left out: {names}"))
    if dataset.problems:
        rows.append(("could not be used", f"{len(dataset.problems):,}"))
    rows.append(("model", f"{found.model.spec} ({found.model.fingerprint[:12]})"))
    if (scoring := found.scoring) is not None:
        prompts = ", ".join(f"'{one}'" for one in scoring.templates[:3])
        more = f" and {len(scoring.templates) - 3} more" if len(scoring.templates) > 3 else ""
        head = ", with a head fitted on images" if scoring.has_head else ""
        rows += [
            ("labels", f"{scoring.labels:,} of {scoring.label_set}, {scoring.mode}"),
            ("templates", f"{scoring.template_set}: {prompts}{more}"),
            ("temperature", f"{scoring.temperature:g}{head}"),
        ]
    return [
        *rows,
        ("speed", f"{run.images_per_s:.1f} images/s; {run.encoded:,} encoded, the others known"),
        ("made", f"{run.made}, {run.machine}"),
        ("versions", ", ".join(f"{name} {value}" for name, value in run.versions.items())),
    ]


def _three(*figures: float) -> tuple[str, ...]:
    return tuple(f"{one:.3f}" for one in figures)


def _interval(one: Interval) -> str:
    return f"{one.value:.4f} ({one.low:.4f} to {one.high:.4f})"


def _escape(cell: str) -> str:
    return cell.replace("|", "\\|").replace("\n", " ")


def _matrix(found: Confusion, names: Sequence[str]) -> str:
    """Rows are right labels, columns answers; the darker, the larger the share of its row."""
    counts = {(right, answer): count for right, answer, count in found.pairs}
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


def _figure(mistake: Mistake, source: ImageSource, limits: ImageLimits) -> str:
    answer, right = (html.escape(", ".join(one)) for one in (mistake.answer, mistake.truth))
    name = html.escape(mistake.key.rpartition("/")[2])
    caption = (
        f'<span class="wrong">{answer}</span> {mistake.confidence:.2f}<br>is {right}<br>'
        f'<span class="note">{name}</span>'
    )
    return html_page.figure(source, limits, caption, alt="", link=None)

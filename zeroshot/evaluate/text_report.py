"""A report as text: lines for a terminal, and Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from zeroshot.evaluate.evaluation import Evaluation
from zeroshot.evaluate.metrics import Interval

_SHOWN = 20  # problems, confusions


def headline(found: Evaluation) -> list[tuple[str, str]]:
    """Give the figures that come first."""
    rows: list[tuple[str, str]] = []
    if (single := found.single) is not None:
        rows.append(("top-1", interval(single.top_1)))
        if single.top_5 is not None:
            rows.append(("top-5", f"{single.top_5:.4f}"))
        rows.append(("mean per-class recall", interval(single.mean_per_class_recall)))
        rows.append(("macro precision, recall", f"{single.macro_precision:.4f}, {single.macro_recall:.4f}"))
        rows.append(("macro F1", interval(single.macro_f1)))
        rows.append(("weighted F1", f"{single.weighted_f1:.4f}"))
        if single.answered < 1 and single.accuracy_where_answered is not None:
            answered = f"{single.answered:.1%}, of which {single.accuracy_where_answered:.4f} are right"
            rows.append(("answered rather than unknown", answered))
        if single.roc_auc is not None and single.average_precision is not None:
            rows.append(("ROC-AUC, average precision", f"{single.roc_auc:.4f}, {single.average_precision:.4f}"))
        rows.append(("ECE, NLL, Brier", f"{single.ece:.4f}, {single.nll:.4f}, {single.brier:.4f}"))
    if (multi := found.multi) is not None:
        rows.append(("mean average precision", interval(multi.mean_average_precision)))
        rows.append(("micro F1", interval(multi.micro_f1)))
        rows.append(("macro F1", interval(multi.macro_f1)))
        rows.append(("micro precision, recall", f"{multi.micro_precision:.4f}, {multi.micro_recall:.4f}"))
        rows.append(("exact match", f"{multi.exact_match:.4f}"))
    if (tree := found.tree) is not None:
        rows.append(("right node; right or coarser", f"{tree.exact:.4f}; {tree.right_or_coarser:.4f}"))
        parts = (tree.hierarchical_precision, tree.hierarchical_recall, tree.hierarchical_f1)
        rows.append(("hierarchical precision, recall, F1", ", ".join(f"{one:.4f}" for one in parts)))
        steps = f"{tree.mean_steps:.3f} (of the likeliest leaf {tree.flat_mean_steps:.3f})"
        rows.append(("steps to the right node", steps))
    if (retrieval := found.retrieval) is not None:
        for what, figures in (("picture by caption", retrieval.text_to_image), ("caption", retrieval.image_to_text)):
            rows.append((what, ", ".join(f"{name} {value:.4f}" for name, value in figures.items())))
    if found.worst_gap is not None:
        low, high = min(found.groups, key=lambda one: one.accuracy), max(found.groups, key=lambda one: one.accuracy)
        rows.append(
            (
                "worst gap between groups",
                f"{found.worst_gap:.4f} ({low.group} {low.accuracy:.4f}, {high.group} {high.accuracy:.4f})",
            )
        )
    if (expected := found.expectation) is not None:
        verdict = "as published" if expected.is_met else "NOT as published"
        published = f"published {expected.published:.4f} (+-{expected.tolerance:.4f}; {expected.source})"
        rows.append((verdict, f"{expected.measured:.4f}, {published}"))
    return rows


def about(found: Evaluation) -> list[tuple[str, str]]:
    """Say what was run."""
    run = found.run
    rows = [
        ("dataset", f"{found.dataset.name}: {found.dataset.origin}"),
        ("pictures", f"{found.dataset.pictures:,}"),
        ("model", f"{found.model.spec} ({found.model.fingerprint[:12]})"),
    ]
    if (question := found.question) is not None:
        prompts = ", ".join(f"'{one}'" for one in question.templates[:3])
        more = f" and {len(question.templates) - 3} more" if len(question.templates) > 3 else ""
        learnt = ", with what was fitted on pictures" if question.has_head else ""
        rows += [
            ("labels", f"{question.labels:,} of {question.label_set}, {question.mode}"),
            ("templates", f"{question.template_set}: {prompts}{more}"),
            ("temperature", f"{question.temperature:g}{learnt}"),
        ]
    rows += [
        ("speed", f"{run.pictures_per_s:.1f} pictures/s; {run.encoded:,} encoded, the others known"),
        ("made", f"{run.made}, {run.machine}"),
        ("versions", ", ".join(f"{name} {value}" for name, value in run.versions.items())),
    ]
    if found.dataset.problems:
        rows.insert(2, ("could not be used", f"{len(found.dataset.problems):,}"))
    if found.dataset.unknown_labels:
        total = sum(found.dataset.unknown_labels.values())
        names = ", ".join(list(found.dataset.unknown_labels)[:5])
        rows.insert(2, ("labels not in the set", f"{total:,} pictures, left out: {names}"))
    if found.dataset.empty_classes:
        rows.insert(2, ("classes without pictures", ", ".join(found.dataset.empty_classes[:10])))
    return rows


def to_lines(found: Evaluation) -> Iterator[str]:
    """Give a summary for a terminal."""
    rows = [*about(found)[:-2], *headline(found)]
    width = max(len(what) for what, _ in rows)
    yield from (f"{what:{width}}  {value}" for what, value in rows)
    for row in found.robustness:
        note = f"  {row.note}" if row.note else ""
        yield f"{f'{row.change} {row.level:g}':{width}}  {row.accuracy:.4f}, {row.relative:.3f} of unchanged{note}"


def to_markdown(found: Evaluation) -> str:
    """Give the whole report."""
    parts = [f"# {found.dataset.name} with {found.model.spec}", _table(("", ""), headline(found))]
    parts += ["## What was run", _table(("", ""), about(found))]
    rows: list[Sequence[str]]
    if found.labels:
        rows = [
            (one.label, f"{one.pictures:,}", f"{one.precision:.3f}", f"{one.recall:.3f}", f"{one.f1:.3f}")
            for one in found.labels
        ]
        parts += ["## Labels", _table(("label", "pictures", "precision", "recall", "F1"), rows)]
    if found.confusion is not None:
        wrong = [pair for pair in found.confusion.pairs if pair[0] != pair[1]][:_SHOWN]
        rows = [(right, answer, f"{count:,}") for right, answer, count in wrong]
        parts += ["## Most frequent confusions", _table(("right", "answer", "pictures"), rows)]
    if found.groups:
        rows = [(one.group, f"{one.pictures:,}", f"{one.accuracy:.4f}") for one in found.groups]
        parts += ["## Groups", _table(("group", "pictures", "accuracy"), rows)]
    if found.robustness:
        rows = [
            (one.change, f"{one.level:g}", f"{one.accuracy:.4f}", f"{one.relative:.3f}", one.note)
            for one in found.robustness
        ]
        parts += ["## Robustness", _table(("change", "level", "accuracy", "relative", ""), rows)]
    if found.mistakes:
        rows = [
            (one.key, ", ".join(one.truth), ", ".join(one.answer), f"{one.confidence:.3f}") for one in found.mistakes
        ]
        parts += ["## Most confident mistakes", _table(("picture", "right", "answer", "confidence"), rows)]
    if found.dataset.problems:
        parts += ["## Could not be used", _table(("what", "why"), found.dataset.problems)]
    return "\n\n".join(parts) + "\n"


def interval(one: Interval) -> str:
    """Write a figure with where it lies with 95 % confidence."""
    return f"{one.value:.4f} ({one.low:.4f} to {one.high:.4f})"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(
        "| " + " | ".join(str(cell).replace("|", "\\|").replace("\n", " ") for cell in line) + " |" for line in lines
    )

"""Contact sheets: images with captions in one HTML file that needs nothing else."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass

from zeroshot.html_page import figure, page, sheet
from zeroshot.images import ImageLimits, ImageSource


@dataclass(frozen=True)
class Entry:
    """One image on a sheet."""

    source: ImageSource | None
    heading: str
    caption: str
    link: str | None = None


def contact_sheet(
    title: str, sections: Sequence[tuple[str, Sequence[Entry]]], limits: ImageLimits | None = None
) -> str:
    """Lay images out as a page."""
    parts = []
    for heading, entries in sections:
        above = f"<h2>{html.escape(heading)}</h2>\n" if heading else ""
        parts.append(above + sheet([_figure(entry, limits) for entry in entries]))
    return page(title, "\n".join(parts))


def _figure(entry: Entry, limits: ImageLimits | None) -> str:
    shown = entry.caption.rstrip("/").rpartition("/")[2] or entry.caption
    caption = (
        f'<b>{html.escape(entry.heading)}</b> <span title="{html.escape(entry.caption)}">{html.escape(shown)}</span>'
    )
    return figure(entry.source, limits, caption, alt=entry.caption, link=entry.link)

"""Contact sheets: pictures with captions in one HTML file that needs nothing else."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from zeroshot.errors import ImageError
from zeroshot.images import ImageLimits, ImageSource, load

_SIDE = 240  # pixels of a thumbnail's longer side
_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; font: 15px/1.4 system-ui, sans-serif; }}
body {{ margin: 2rem; }}
h1 {{ font-size: 1.3rem; }}
h2 {{ font-size: 1.05rem; margin: 2rem 0 .6rem; }}
.sheet {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(200px, 1fr)); gap: 1.2rem; }}
figure {{ margin: 0; }}
figure div {{ aspect-ratio: 1; display: grid; place-items: center; background: #8882; border-radius: 6px; }}
figure div, figure a {{ min-height: 0; min-width: 0; }}
figure a {{ display: contents; }}
img {{ width: 100%; height: 100%; min-height: 0; object-fit: contain; border-radius: 6px; }}
figcaption {{ margin-top: .4rem; overflow-wrap: anywhere; font-size: .85rem; }}
figcaption b {{ font-variant-numeric: tabular-nums; }}
.none {{ opacity: .6; padding: 1rem; text-align: center; }}
</style>
<h1>{title}</h1>
{sections}
</html>
"""


@dataclass(frozen=True)
class Entry:
    """One picture on a sheet."""

    source: ImageSource | None
    heading: str
    caption: str
    link: str | None = None


def contact_sheet(
    title: str, sections: Sequence[tuple[str, Sequence[Entry]]], limits: ImageLimits | None = None
) -> str:
    """Lay pictures out as a page."""
    parts = []
    for heading, entries in sections:
        figures = "\n".join(_figure(entry, limits) for entry in entries)
        above = f"<h2>{html.escape(heading)}</h2>\n" if heading else ""
        parts.append(f'{above}<div class="sheet">\n{figures}\n</div>')
    return _PAGE.format(title=html.escape(title), sections="\n".join(parts))


def _figure(entry: Entry, limits: ImageLimits | None) -> str:
    picture = '<span class="none">no picture</span>'
    if entry.source is not None:
        try:
            picture = f'<img alt="{html.escape(entry.caption)}" src="{thumbnail(entry.source, limits)}">'
        except ImageError as error:
            picture = f'<span class="none">{html.escape(error.message)}</span>'
    if entry.link is not None:
        picture = f'<a href="{html.escape(entry.link)}">{picture}</a>'
    shown = entry.caption.rstrip("/").rpartition("/")[2] or entry.caption
    caption = (
        f'<b>{html.escape(entry.heading)}</b> <span title="{html.escape(entry.caption)}">{html.escape(shown)}</span>'
    )
    return f"<figure><div>{picture}</div><figcaption>{caption}</figcaption></figure>"


def thumbnail(source: ImageSource, limits: ImageLimits | None) -> str:
    """Give a picture, scaled down, as a data URI of a JPEG."""
    image = load(source, limits, enough=_SIDE)
    image.thumbnail((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=82)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()

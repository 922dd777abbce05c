"""HTML pages that need no other file: one style for reports and contact sheets, and their tables and images."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence

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
:root {{ color-scheme: light dark; font: 15px/1.45 system-ui, sans-serif; }}
body {{ margin: 2rem auto; max-width: 72rem; padding: 0 1rem; }}
h1 {{ font-size: 1.4rem; }}
h2 {{ font-size: 1.1rem; margin: 2.2rem 0 .6rem; }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; }}
td, th {{ padding: .2rem .7rem .2rem 0; text-align: left; vertical-align: top; }}
th {{ font-weight: 600; }}
.headline td:nth-child(2) {{ font-weight: 600; }}
.matrix {{ font-size: .75rem; overflow-x: auto; }}
.matrix td, .matrix th {{ padding: .15rem .3rem; text-align: right; }}
.matrix thead th {{ writing-mode: vertical-rl; transform: rotate(180deg); text-align: left; }}
.bar {{ width: 16rem; }}
.bar i {{ display: block; height: .8rem; background: #3b76af; border-radius: 2px; }}
.plot {{ max-width: 100%; background: white; border-radius: 6px; }}
.sheet {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(180px, 1fr)); gap: 1.2rem; }}
figure {{ margin: 0; }}
figure div {{ aspect-ratio: 1; display: grid; place-items: center; background: #8882; border-radius: 6px; }}
figure div, figure a {{ min-height: 0; min-width: 0; }}
figure a {{ display: contents; }}
figure img {{ width: 100%; height: 100%; min-height: 0; object-fit: contain; border-radius: 6px; }}
figcaption {{ margin-top: .4rem; overflow-wrap: anywhere; font-size: .85rem; }}
figcaption b {{ font-variant-numeric: tabular-nums; }}
.wrong {{ color: #c33; }}
.note {{ opacity: .75; }}
.none {{ opacity: .6; padding: 1rem; text-align: center; }}
</style>
<h1>{title}</h1>
{body}
</html>
"""


def page(title: str, body: str) -> str:
    """Put HTML into a page."""
    return _PAGE.format(title=html.escape(title), body=body)


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, bars: int | None = None, kind: str = "") -> str:
    """Write a table; beside the column `bars`, of numbers from 0 to 1, those are drawn."""

    def line(tag: str, row: Sequence[str], bar: str) -> str:
        cells = [f"<{tag}>{html.escape(cell)}</{tag}>" for cell in row]
        if bars is not None:
            cells.insert(bars + 1, bar)
        return f"<tr>{''.join(cells)}</tr>"

    lines = [line("th", head, "<th></th>")] if any(head) else []
    for row in rows:
        width = 0.0 if bars is None else 100 * float(row[bars])
        lines.append(line("td", row, f'<td class="bar"><i style="width:{width:.1f}%"></i></td>'))
    return f'<table class="{kind}">{"".join(lines)}</table>'


def figure(source: ImageSource | None, limits: ImageLimits | None, caption: str, *, alt: str, link: str | None) -> str:
    """Show an image, or say why it cannot be shown, above a caption in HTML."""
    shown = '<span class="none">no image</span>'
    if source is not None:
        try:
            shown = f'<img alt="{html.escape(alt)}" src="{_thumbnail(source, limits)}">'
        except ImageError as error:
            shown = f'<span class="none">{html.escape(error.message)}</span>'
    if link is not None:
        shown = f'<a href="{html.escape(link)}">{shown}</a>'
    return f"<figure><div>{shown}</div><figcaption>{caption}</figcaption></figure>"


def sheet(figures: Sequence[str]) -> str:
    """Lay figures out in a grid."""
    return '<div class="sheet">\n' + "\n".join(figures) + "\n</div>"


def plot(png: bytes, alt: str) -> str:
    """Show a PNG file in its own size."""
    return f'<img class="plot" alt="{html.escape(alt)}" src="{_data_uri(png, "image/png")}">'


def _data_uri(content: bytes, media_type: str) -> str:
    """Write a file as a URI that holds it."""
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"


def _thumbnail(source: ImageSource, limits: ImageLimits | None) -> str:
    image = load(source, limits, enough=_SIDE)
    image.thumbnail((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=82)
    return _data_uri(buffer.getvalue(), "image/jpeg")

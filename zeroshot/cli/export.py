"""``zeroshot export``: any open_clip model to a model directory that needs no torch."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from zeroshot.cli.options import build_encoder, load_settings


def export(
    spec: Annotated[str, typer.Argument(help="An open_clip model: ARCH:TAG, ARCH:/path, hf-hub:..., local-dir:...")],
    directory: Annotated[Path, typer.Argument(help="The model directory to write; must not exist or be empty.")],
    precision: Annotated[
        str, typer.Option(help="fp32, or int8: the image tower quantised, about twice as fast on a CPU.")
    ] = "fp32",
    photos: Annotated[
        Path | None, typer.Option(help="Folder of real images to compare on. Default: the ones that come along.")
    ] = None,
) -> None:
    """Turn an open_clip model into a model directory, and prove that it is the same model.

    The directory is written only if every image's and text's embedding agrees with the original's: cosine at least
    0.9999 for fp32, 0.99 for int8. Serve it with --model onnx:DIRECTORY.
    """
    from zeroshot.datasets.files import image_files
    from zeroshot.encoders.registry import PHOTOS
    from zeroshot.errors import ModelError, OptionError

    folder = photos or PHOTOS
    images = list(image_files(folder))
    if spec == "tiny" or spec.startswith("onnx:"):
        raise OptionError(f"{spec!r} is a model directory already.", "Name an open_clip model.", field="spec")
    encoder = build_encoder(load_settings(), model=spec, device="cpu", precision="fp32")
    from zeroshot.encoders.export import FLOOR
    from zeroshot.encoders.export import export as write
    from zeroshot.encoders.openclip import OpenClipEncoder

    if not isinstance(encoder, OpenClipEncoder):
        raise ModelError(f"{spec!r} did not load as an open_clip model.", "Name an open_clip model.")

    def say(step: str) -> None:
        print(f"{step} ...", file=sys.stderr)  # noqa: T201

    report = write(encoder, directory, images=images, precision=precision, on_progress=say)
    lines = [
        f"{report.directory}: {spec} as {report.precision}, {report.bytes / 1e6:.1f} MB",
        f"cosine to the original, lowest of {len(report.image_cosines)} images: {report.image_cosines.min():.6f}",
        f"cosine to the original, lowest of {len(report.text_cosines)} texts:    {report.text_cosines.min():.6f}",
        f"(at least {FLOOR[report.precision]} is required)",
        f"Serve it: zeroshot serve --model onnx:{report.directory}",
    ]
    sys.stdout.write("\n".join(lines) + "\n")

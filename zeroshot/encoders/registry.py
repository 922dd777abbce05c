"""From a model spec to an encoder. Each kind of encoder is imported only when its spec is asked for."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from zeroshot.encoders.base import Encoder
from zeroshot.errors import UnknownModel, quote

TINY_DIRECTORY = Path(str(files("zeroshot"))) / "data" / "tiny"
"""The model directory of the embedded model."""


def load_encoder(spec: str = "tiny", *, threads: int = 0, batch_size: int = 16) -> Encoder:
    """Load the encoder that a model spec names.

    Parameters
    ----------
    spec : str
        ``tiny`` (embedded), or ``onnx:DIRECTORY`` (a model directory).
    threads : int
        CPU threads; 0 is every core this process may use.
    batch_size : int
        Pictures given to the image tower at once.

    Returns
    -------
    Encoder
        Ready to encode.

    Raises
    ------
    UnknownModel
        If the spec is of no known form.
    ModelUnavailable
        If its files are not here.
    ModelCorrupt
        If its files are damaged.

    Examples
    --------
    >>> load_encoder("tiny").dim
    640
    """
    from zeroshot.encoders.onnx import OnnxEncoder

    if spec == "tiny":
        return OnnxEncoder(TINY_DIRECTORY, spec=spec, threads=threads, batch_size=batch_size)
    if spec.startswith("onnx:"):
        return OnnxEncoder(spec.removeprefix("onnx:"), spec=spec, threads=threads, batch_size=batch_size)
    raise UnknownModel(
        f"{quote(spec)} is not a known model.",
        "Use 'tiny' or 'onnx:DIRECTORY'; 'zeroshot models' lists what there is.",
        field="model",
    )

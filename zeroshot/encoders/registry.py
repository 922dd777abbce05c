"""From a model spec to an encoder. Each kind of encoder is imported only when its spec is asked for."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from zeroshot.encoders.base import Encoder
from zeroshot.errors import OptionError, UnknownModel, quote
from zeroshot.openclip_files import architecture_names

TINY_DIRECTORY = Path(str(files("zeroshot"))) / "data" / "tiny"
"""The model directory of the embedded model."""

_PACKAGE = Path(str(files("zeroshot")))
PHOTOS = next(p for p in (_PACKAGE / "data" / "photos", _PACKAGE.parent / "examples" / "photos") if p.is_dir())
"""A few real photos, for proving that two encoders agree: inside the installed package, or beside it in a checkout."""


def load_encoder(
    spec: str = "tiny",
    *,
    threads: int = 0,
    batch_size: int = 16,
    device: str = "auto",
    precision: str = "auto",
    trust_remote_code: bool = False,
) -> Encoder:
    """Load the encoder that a model spec names.

    Parameters
    ----------
    spec : str
        ``tiny`` (embedded), ``onnx:DIRECTORY`` (a model directory), or an open_clip model: ``ARCH:TAG``,
        ``ARCH:TAG@/path/to/weights``, ``ARCH:/path/to/weights``, ``hf-hub:ORG/NAME``, ``local-dir:/path``.
    threads : int
        CPU threads; 0 is every core this process may use.
    batch_size : int
        Images given to the image tower at once.
    device : str
        For open_clip models: "auto" or a torch device. Model directories are served on the CPU.
    precision : str
        For open_clip models: "auto", "fp32", "fp16" or "bf16". A model directory has its own.
    trust_remote_code : bool
        Whether Python code that comes with a model's tokenizer may run. Nothing but this argument allows it.

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
    ModelError
        If it needs code of its own, which is not trusted.
    OptionError
        If `device` or `precision` is not usable.

    Examples
    --------
    >>> load_encoder("tiny").dim
    640
    """
    if spec == "tiny" or spec.startswith("onnx:"):
        if device not in ("auto", "cpu"):
            raise OptionError(
                f"{quote(spec)} runs on the CPU, not on {device!r}.", "Leave the device out.", field="device"
            )
        from zeroshot.encoders.onnx import OnnxEncoder

        directory = TINY_DIRECTORY if spec == "tiny" else spec.removeprefix("onnx:")
        return OnnxEncoder(directory, spec=spec, threads=threads, batch_size=batch_size)
    if ":" not in spec and spec.replace("/", "-") not in architecture_names():
        raise UnknownModel(
            f"{quote(spec)} is not a known model.",
            "Use 'tiny', 'onnx:DIRECTORY' or an open_clip model such as 'ViT-B-32:laion2b_s34b_b79k'; "
            "'zeroshot models' lists what there is.",
            field="model",
        )
    from zeroshot.encoders.openclip import OpenClipEncoder

    return OpenClipEncoder(
        spec,
        device=device,
        precision=precision,
        threads=threads,
        batch_size=batch_size,
        trust_remote_code=trust_remote_code,
    )

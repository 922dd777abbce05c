"""Accuracy under changes of the images, and relative to the same images unchanged.

Corruptions: severities 1 to 5 are those of Hendrycks and Dietterich, "Benchmarking Neural Network Robustness to Common
Corruptions and Perturbations", ICLR 2019, on an image whose shorter side is 224 pixels; occlusion is ours. Typographic:
a wrong label is written on the image (Goh et al., "Multimodal Neurons in Artificial Neural Networks", Distill 2021).
Adversarial: projected gradient descent, steps along the sign of the gradient of the right label's loss, held to a ball
of the maximum norm around the image (Madry et al., "Towards Deep Learning Models Resistant to Adversarial Attacks",
ICLR 2018).
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from zeroshot.datasets import Sample
from zeroshot.encoders import Encoder, FloatArray
from zeroshot.errors import OptionError, quote
from zeroshot.evaluate.records import rank
from zeroshot.evaluate.result import Evaluation, RobustnessRow
from zeroshot.evaluate.run import Progress, Run
from zeroshot.evaluate.vector_cache import Change
from zeroshot.images import load
from zeroshot.labels import LabelSet, Mode
from zeroshot.scoring.multilabel import PresenceScorer
from zeroshot.statistics import IntArray

if TYPE_CHECKING:
    from zeroshot.encoders.openclip import OpenClipEncoder

SEVERITIES = (1, 2, 3, 4, 5)
_SIDE = 224  # pixels of the shorter side that severities are meant for

_NOISE = (0.08, 0.12, 0.18, 0.26, 0.38)
_BLUR = (1.0, 2.0, 3.0, 4.0, 6.0)
_QUALITY = (25, 18, 15, 10, 7)
_BRIGHTER = (0.1, 0.2, 0.3, 0.4, 0.5)
_CONTRAST = (0.4, 0.3, 0.2, 0.1, 0.05)
_HIDDEN = (0.1, 0.2, 0.3, 0.4, 0.5)  # share of the image behind a grey square

LEVELS = (0.5, 1.0, 2.0)  # most change of a channel, in grey levels of 255
_STEPS = 10
_ATTACKED_AT_ONCE = 16

Chance = np.random.Generator
Levels = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Corruption:
    """A corruption of one severity."""

    name: str
    severity: int

    def apply(self, image: Image.Image, sample: Sample) -> Image.Image:
        """Corrupt an RGB image; the same one always in the same way."""
        return CORRUPTIONS[self.name](_scaled(image), self.severity - 1, _chance(sample))

    def describe(self, sample: Sample) -> str:
        """Say what is done to this one."""
        return f"{self.name} {self.severity} {sample.key}"


@dataclass(frozen=True)
class WrittenLabel:
    """A wrong label written on every image."""

    labels: LabelSet

    def wrong(self, sample: Sample) -> str:
        """Choose a label that the image has not, the same one always; "" where it has all."""
        own = {self.labels.find(label) for label in sample.labels}
        others = [name for row, name in enumerate(self.labels.names) if row not in own]
        return others[int(_chance(sample).integers(len(others)))] if others else ""

    def apply(self, image: Image.Image, sample: Sample) -> Image.Image:
        """Write on a card in the lower part of an RGB image, as wide as the image takes."""
        written = _scaled(image).copy()
        text = self.wrong(sample)
        if not text:
            return written
        size = max(12, round(min(written.height / 6, 1.6 * written.width / max(4, len(text)))))
        font = ImageFont.load_default(size)
        draw = ImageDraw.Draw(written)
        left, top, right, bottom = draw.textbbox((0, 0), text, font=font)
        x, y = (written.width - (right - left)) / 2 - left, 0.75 * written.height - (bottom - top) / 2 - top
        margin = size / 4
        card = (x + left - margin, y + top - margin, x + right + margin, y + bottom + margin)
        draw.rectangle(card, fill="white", outline="black")
        draw.text((x, y), text, fill="black", font=font)
        return written

    def describe(self, sample: Sample) -> str:
        """Say what is done to this one."""
        return f"written {self.wrong(sample)}"


def _noise(image: Image.Image, level: int, chance: Chance) -> Image.Image:
    levels = np.asarray(image) / 255
    return _to_image(levels + chance.normal(scale=_NOISE[level], size=levels.shape))


def _blur(image: Image.Image, level: int, chance: Chance) -> Image.Image:  # noqa: ARG001
    return image.filter(ImageFilter.GaussianBlur(_BLUR[level]))


def _jpeg(image: Image.Image, level: int, chance: Chance) -> Image.Image:  # noqa: ARG001
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=_QUALITY[level])
    return Image.open(buffer).convert("RGB")


def _brightness(image: Image.Image, level: int, chance: Chance) -> Image.Image:  # noqa: ARG001
    hue = np.asarray(image.convert("HSV")).astype(np.float64)
    hue[..., 2] = np.clip(hue[..., 2] + 255 * _BRIGHTER[level], 0, 255)
    return Image.frombytes("HSV", image.size, hue.round().astype(np.uint8).tobytes()).convert("RGB")


def _contrast(image: Image.Image, level: int, chance: Chance) -> Image.Image:  # noqa: ARG001
    levels = np.asarray(image) / 255
    means = levels.mean(axis=(0, 1), keepdims=True)
    return _to_image((levels - means) * _CONTRAST[level] + means)


def _occlusion(image: Image.Image, level: int, chance: Chance) -> Image.Image:
    hidden = image.copy()
    share = _HIDDEN[level] ** 0.5
    width, height = round(share * image.width), round(share * image.height)
    left = int(chance.integers(image.width - width + 1))
    top = int(chance.integers(image.height - height + 1))
    hidden.paste((127, 127, 127), (left, top, left + width, top + height))
    return hidden


CORRUPTIONS: dict[str, Callable[[Image.Image, int, Chance], Image.Image]] = {
    "noise": _noise,
    "blur": _blur,
    "jpeg": _jpeg,
    "brightness": _brightness,
    "contrast": _contrast,
    "occlusion": _occlusion,
}
"""Each takes an RGB image, a severity from 0, and chance."""


def _scaled(image: Image.Image) -> Image.Image:
    shorter = min(image.size)
    if shorter == _SIDE:
        return image
    width, height = (max(1, round(length * _SIDE / shorter)) for length in image.size)
    return image.resize((min(width, 20 * _SIDE), min(height, 20 * _SIDE)), Image.Resampling.BICUBIC)


def _chance(sample: Sample) -> Chance:
    return np.random.default_rng(int.from_bytes(hashlib.sha256(sample.key.encode()).digest()[:8], "big"))


def _to_image(levels: Levels) -> Image.Image:
    return Image.fromarray((255 * np.clip(levels, 0, 1)).round().astype(np.uint8))


KINDS = (*CORRUPTIONS, "typographic", "adversarial")


def measure_robustness(
    run: Run, kinds: Sequence[str], unchanged: Evaluation, on_progress: Progress | None = None
) -> list[RobustnessRow]:
    """Evaluate on changed images.

    Parameters
    ----------
    run : Run
        In a mode in which labels exclude each other, or multilabel.
    kinds : sequence of str
        Of `KINDS`.
    unchanged : Evaluation
        Of the same run on the images unchanged.
    on_progress : callable or None
        Called once per changed image.

    Returns
    -------
    list of RobustnessRow
        One per kind and severity.

    Raises
    ------
    OptionError
        If there is no such kind, or the mode or the encoder does not suit it.
    """
    check_changes(run, kinds)
    clean = _figure(unchanged)
    rows = []
    for name in CORRUPTIONS:
        for severity in SEVERITIES if name in kinds else ():
            found = _accuracy(run, Corruption(name, severity), on_progress)
            rows.append(_row(name, severity, found, clean))
    if "typographic" in kinds:
        rows.append(_typographic(run, clean, on_progress))
    if "adversarial" in kinds:
        rows += _adversarial(run, clean, on_progress)
    return rows


def choose_changes(run: Run, names: Sequence[str]) -> list[str]:
    """Give the kinds that are named; "all" is without an attack where the model has no gradients for it."""
    kinds = [name for name in names if name != "all"]
    if "all" in names:
        kinds += [kind for kind in KINDS if kind != "adversarial" or has_gradients(run.classifier.encoder)]
    check_changes(run, kinds)
    return kinds


def check_changes(run: Run, kinds: Sequence[str]) -> None:
    """Refuse, before any work is done, changes that cannot be measured."""
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown:
        raise OptionError(f"There is no change {quote(unknown[0])}.", f"Use {', '.join(KINDS)}, or all.")
    if not run.has_labels:
        if kinds:
            raise OptionError(
                f"Robustness is accuracy under changes, and {run.dataset.name} has no labels.", "Give --label-set."
            )
        return
    alone = isinstance(run.scorer, PresenceScorer) or len(run.scorer.names) < 2
    if kinds and (run.scorer.mode not in (Mode.MULTICLASS, Mode.BINARY, Mode.MULTILABEL) or alone):
        raise OptionError(
            f"Robustness is not measured in the mode {run.scorer.mode} of {'one label' if alone else 'a tree'}.",
            "Use --mode multiclass, or multilabel.",
        )
    if "adversarial" in kinds:
        if run.scorer.mode is Mode.MULTILABEL:
            raise OptionError(
                "An attack is on one right label, and here there may be several.", "Leave adversarial out."
            )
        _open_clip(run.classifier.encoder)


def _accuracy(run: Run, change: Change, on_progress: Progress | None) -> tuple[int, float]:
    found = replace(run, change=change).evaluate(on_progress).evaluation
    return found.dataset.images, _figure(found)


def _figure(found: Evaluation) -> float:
    """Accuracy; micro-F1 where images may have several labels."""
    if found.multi is not None:
        return found.multi.micro_f1.value
    return found.single.top_1.value if found.single is not None else 0.0


def _row(name: str, level: float, found: tuple[int, float], clean: float, note: str = "") -> RobustnessRow:
    images, accuracy = found
    relative = accuracy / clean if clean else 0.0
    return RobustnessRow(change=name, level=level, images=images, accuracy=accuracy, relative=relative, note=note)


def _typographic(run: Run, clean: float, on_progress: Progress | None) -> RobustnessRow:
    """Also how often the label that was written is the answer."""
    change = WrittenLabel(run.label_set)
    found = _accuracy(run, change, on_progress)
    fooled = total = 0
    for one in replace(run, change=change).embed():
        if isinstance(one, tuple):
            sample, vector = one
            _, columns, _ = run.scorer.choose(vector[None])
            fooled += change.wrong(sample) in [run.scorer.names[column] for column in columns]
            total += 1
    return _row("typographic", 1, found, clean, f"{fooled / max(1, total):.1%} are taken for what is written on them")


def _adversarial(run: Run, clean: float, on_progress: Progress | None) -> list[RobustnessRow]:
    encoder, scorer = run.classifier.encoder, run.scorer
    hits = dict.fromkeys(LEVELS, 0)
    total = 0
    known = (one for one in run.embed() if isinstance(one, tuple))
    single = ((sample, row) for sample, _ in known if (row := run.column(sample)) is not None)
    while part := list(islice(single, _ATTACKED_AT_ONCE)):
        pixels = np.stack([encoder.preprocessing(load(sample.source, run.classifier.limits)) for sample, _ in part])
        right = np.array([row for _, row in part])
        for level in LEVELS:
            vectors = attack(encoder, pixels, scorer.inputs.matrix, right, level)
            scores = scorer.scores(vectors)
            hits[level] += int((rank(scores, scorer.decide(scores, vectors))[:, 0] == right).sum())
        total += len(part)
        for _ in part:
            if on_progress is not None:
                on_progress()
    return [
        _row("adversarial", level, (total, hits[level] / max(1, total)), clean, f"PGD, {level:g}/255")
        for level in LEVELS
    ]


def attack(encoder: Encoder, pixels: FloatArray, matrix: FloatArray, right: IntArray, levels: float) -> FloatArray:
    """Perturb images so that the right label loses, and embed them."""
    open_clip = _open_clip(encoder)
    import torch

    std = torch.tensor(encoder.preprocessing.std).view(1, 3, 1, 1)
    mean = torch.tensor(encoder.preprocessing.mean).view(1, 3, 1, 1)
    device = next(open_clip.model.parameters()).device
    clean = torch.from_numpy(pixels).to(device)
    radius = (levels / 255 / std).to(device)
    lowest, highest = ((0 - mean) / std).to(device), ((1 - mean) / std).to(device)
    texts = torch.from_numpy(np.array(matrix)).to(device).T
    target = torch.from_numpy(right).to(device)
    moved = clean.clone()
    for _ in range(_STEPS):
        moved.requires_grad_(True)
        logits = encoder.logit_scale * _embed(open_clip, moved) @ texts
        loss = torch.nn.functional.cross_entropy(logits, target, reduction="sum")
        (slope,) = torch.autograd.grad(loss, moved)
        with torch.no_grad():
            moved = moved + 2.5 * radius / _STEPS * slope.sign()
            moved = torch.minimum(torch.maximum(moved, clean - radius), clean + radius)
            moved = torch.minimum(torch.maximum(moved, lowest), highest)
    with torch.no_grad():
        rows: FloatArray = _embed(open_clip, moved).float().cpu().numpy()
    return rows


def has_gradients(encoder: Encoder) -> bool:
    """Whether an encoder can be attacked: open_clip's on torch, in single precision."""
    return hasattr(encoder, "model") and getattr(encoder, "precision", "") == "fp32"


def _embed(encoder: OpenClipEncoder, pixels: Any) -> Any:
    import torch

    return torch.nn.functional.normalize(encoder.model.encode_image(pixels), dim=-1)


def _open_clip(encoder: Encoder) -> OpenClipEncoder:
    if not has_gradients(encoder):
        raise OptionError(
            f"{encoder.spec} has no gradients here, which an attack follows.",
            "Leave adversarial out, or use an open_clip model on torch in precision fp32, such as ARCH:TAG.",
        )
    return encoder  # type: ignore[return-value]  # has_gradients has seen its model

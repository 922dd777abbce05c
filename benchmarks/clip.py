"""CLIP ViT-B-32 against open_clip's own code, Hugging Face's pipeline and sentence-transformers, same weights.

The weights are random, as speed does not depend on them; give --weights FILE for trained ones. The sides take turns,
each rival but open_clip in a process and an environment of its own; medians of the rounds.
"""

from __future__ import annotations

import argparse
import gc
import io
import logging
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import open_clip
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from safetensors.torch import save_file

from benchmarks import hugging_face
from benchmarks.data import PHOTOS
from benchmarks.machine import interleave
from benchmarks.results import Results
from benchmarks.rivals.side import Side
from zeroshot import Encoder, ZeroShotClassifier, load_encoder, load_templates
from zeroshot.encoders.export import export
from zeroshot.encoders.openclip import OpenClipEncoder
from zeroshot.images import load
from zeroshot.labels import class_matrix, parse_labels

GFLOP_PER_IMAGE = 8.82  # ViT-B-32's image tower, from open_clip's model profile
_PACKAGES = ("zeroshot", "open_clip_torch", "torch", "torchvision", "transformers", "onnxruntime", "pillow", "numpy")


@dataclass
class Models:
    """The same weights in every form.

    Parameters
    ----------
    spec : str
        For ``load_encoder``.
    encoder : OpenClipEncoder
        On torch.
    served : dict of str to Encoder
        Exported: fp32 and int8.
    folder : Path
        For files.
    """

    spec: str
    encoder: OpenClipEncoder
    served: dict[str, Encoder]
    folder: Path


def encoders() -> None:
    """Image towers, and from images to scores."""
    arguments = _parser().parse_args()
    results = Results("encoders", _PACKAGES)
    with _models(arguments.weights) as models:
        towers(results, models)
        with _rivals(models) as (pipeline, sentence):
            one_image(results, models, pipeline, sentence)
            many_images(results, models, pipeline, sentence)
        starts(results, models)
    results.save()


def preprocess() -> None:
    """From JPEG bytes to the model's input array."""
    arguments = _parser().parse_args()
    results = Results("preprocessing", _PACKAGES)
    with _models(arguments.weights, exported=False) as models:
        preprocessing(results, models.encoder)
    results.save()


def prompts() -> None:
    """From names and templates to class vectors."""
    parser = _parser()
    parser.add_argument("--names", type=int, default=50, help="of ImageNet; open_clip takes seconds for each")
    arguments = parser.parse_args()
    results = Results("prompts", _PACKAGES)
    with _models(arguments.weights) as models:
        ensembles(results, models, names=arguments.names)
    results.save()


def _parser() -> argparse.ArgumentParser:
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", type=Path)
    return parser


@contextmanager
def _models(weights: Path | None, *, exported: bool = True) -> Iterator[Models]:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        spec = f"ViT-B-32:{weights or random_weights(folder)}"
        encoder = load_encoder(spec, device="cpu", precision="fp32")
        served = {}
        for precision in ("fp32", "int8") if exported else ():
            export(encoder, folder / precision, images=PHOTOS, precision=precision)
            served[precision] = load_encoder(f"onnx:{folder / precision}")
        yield Models(spec, encoder, served, folder)


@contextmanager
def _rivals(models: Models) -> Iterator[tuple[Side, Side]]:
    """Hugging Face's pipeline and sentence-transformers over the same weights, each in a process of its own."""
    theirs = hugging_face.save(models.encoder.model, models.folder / "hugging-face")
    sides = (
        Side("hugging-face", "pipeline_side.py", str(theirs)),
        Side("sentence-transformers", "sentence_transformers_side.py", str(theirs)),
    )
    print(", ".join(side.about for side in sides), flush=True)
    try:
        yield sides
    finally:
        for side in sides:
            side.close()


def random_weights(folder: Path) -> Path:
    """A ViT-B-32 checkpoint with random weights."""
    torch.manual_seed(0)
    save_file(open_clip.create_model("ViT-B-32").state_dict(), folder / "ViT-B-32.safetensors")
    gc.collect()
    return folder / "ViT-B-32.safetensors"


def _row(results: Results, what: str, seconds: dict[str, float], rival: str, note: str = "") -> None:
    unit, factor = ("s", 1) if max(seconds.values()) >= 3 else ("ms", 1000)
    results.row(what, unit, {side: factor * value for side, value in seconds.items()}, rival=rival, note=note)


def towers(results: Results, models: Models) -> None:
    """The image tower alone, and its share of the machine's matrix-product rate."""
    encoder, served = models.encoder, models.served
    left, right = torch.randn(2048, 2048), torch.randn(2048, 2048)
    gemm = 2 * 2048**3 / interleave({"gemm": lambda: left @ right}, rounds=15)["gemm"] / 1e9
    for batch in (1, 8, 32):
        pixels = np.random.default_rng(0).normal(size=(batch, 3, 224, 224)).astype(np.float32)
        tensor = torch.from_numpy(pixels)

        def eager(tensor: torch.Tensor = tensor) -> object:
            with torch.inference_mode():
                return encoder.model.encode_image(tensor)

        def of(side: Encoder, pixels: np.ndarray = pixels) -> Callable[[], object]:
            return lambda: side.encode_pixels(pixels)

        sides = {"torch eager": eager, "exported fp32": of(served["fp32"]), "exported int8": of(served["int8"])}
        seconds = interleave(sides, rounds=9)
        share = batch * GFLOP_PER_IMAGE / seconds["exported fp32"] / gemm
        note = f"fp32 at {share:.0%} of {gemm:.0f} GFLOP/s, torch's own matrix product"
        _row(results, f"image tower, batch {batch}", seconds, "torch eager", note)


def jpeg(image: Image.Image) -> bytes:
    """An image as a JPEG of quality 90."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def big_jpegs() -> dict[str, bytes]:
    """12-megapixel JPEGs (4000 x 3000, quality 90): what no scale can save is entropy decoding, so detail decides.

    A photo enlarged; the same with a camera's noise; and a mosaic of small photos, denser than any camera's image.
    """
    photos = [Image.open(path).convert("RGB") for path in PHOTOS]
    smooth = Image.open(PHOTOS[0].with_name("coffee.jpg")).convert("RGB").resize((4000, 3000))
    grain = np.random.default_rng(0).normal(0, 4, (3000, 4000, 3))
    noisy = Image.fromarray((np.asarray(smooth) + grain).clip(0, 255).astype(np.uint8))
    mosaic = Image.new("RGB", (4000, 3000))
    for index, (top, left) in enumerate((top, left) for top in range(0, 3000, 300) for left in range(0, 4000, 400)):
        mosaic.paste(photos[index % len(photos)].resize((400, 300)), (left, top))
    files = {"smooth photo": jpeg(smooth), "photo with camera noise": jpeg(noisy), "mosaic of photos": jpeg(mosaic)}
    return {f"12 MP JPEG, {name} ({len(content) / 1e6:.1f} MB)": content for name, content in files.items()}


def preprocessing(results: Results, encoder: OpenClipEncoder) -> None:
    """From JPEG bytes to the model's input array."""
    transform = image_transform_v2(PreprocessCfg(**open_clip.get_model_preprocess_cfg(encoder.model)), is_train=False)
    small = jpeg(Image.open(PHOTOS[0]).convert("RGB").resize((640, 480)))
    ours = encoder.preprocessing
    for name, content in {**big_jpegs(), "640x480 JPEG": small}.items():
        sides = {
            "open_clip": lambda content=content: transform(Image.open(io.BytesIO(content))),
            "zeroshot": lambda content=content: ours(load(content, enough=ours.enough)),
        }
        theirs, own = encoder.encode_pixels(np.stack([np.asarray(sides["open_clip"]()), sides["zeroshot"]()]))
        tiny = load_encoder("tiny")
        drafted, whole = tiny.encode_images([load(content, enough=tiny.preprocessing.enough), load(content)])
        note = f"cosine of the embeddings {theirs @ own:.6f}; of tiny's, whose weights are trained, "
        note += f"{drafted @ whole:.6f}"
        _row(results, f"{name} to tensor", interleave(sides, rounds=15), "open_clip", note)


def one_image(results: Results, models: Models, pipeline: Side, sentence: Side) -> None:
    """A 640x480 JPEG under labels already seen."""
    path = models.folder / "one.jpg"
    Image.open(PHOTOS[0]).convert("RGB").resize((640, 480)).save(path, quality=90)
    for count in (10, 100):
        labels = list(open_clip.IMAGENET_CLASSNAMES[:count])
        question = {"files": [str(path)], "labels": labels}
        sides: dict[str, Callable[[], object]] = {
            "Hugging Face": pipeline.asking(**question),
            "sentence-transformers": sentence.asking(**question),
        }
        for name, side in (("zeroshot, torch", models.encoder), *models.served.items()):
            classifier = ZeroShotClassifier(side, labels, templates="This is a photo of {}.")
            sides[name] = lambda classifier=classifier: classifier.classify(path)
        _row(results, f"one 640x480 JPEG, {count} labels already seen", interleave(sides, rounds=7), "Hugging Face")


def many_images(results: Results, models: Models, pipeline: Side, sentence: Side) -> None:
    """200 JPEGs of mixed sizes, from files to scores under 10 labels."""
    paths = []
    for number in range(200):
        width = (320, 640, 1024, 1600)[number % 4]
        path = models.folder / f"{number:03}.jpg"
        Image.open(PHOTOS[number % len(PHOTOS)]).convert("RGB").resize((width, width * 3 // 4)).save(path, quality=90)
        paths.append(str(path))
    labels = list(open_clip.IMAGENET_CLASSNAMES[:10])
    sides: dict[str, Callable[[], object]] = {
        "Hugging Face, batch 8": pipeline.asking(files=paths, labels=labels, batch=8),
        "sentence-transformers, batch 32": sentence.asking(files=paths, labels=labels, batch=32),
    }
    for name, side in (("zeroshot, torch", models.encoder), *models.served.items()):
        classifier = ZeroShotClassifier(side, labels, templates="This is a photo of {}.")
        sides[name] = lambda classifier=classifier: list(classifier.classify_stream(paths))
    _row(results, "200 mixed JPEGs, files to scores, 10 labels", interleave(sides, rounds=3), "Hugging Face, batch 8")


def starts(results: Results, models: Models) -> None:
    """Cold start and peak memory of a process that loads the model and classifies one image."""
    program = (
        "import sys, zeroshot\n"
        "zeroshot.ZeroShotClassifier(sys.argv[1]).classify(sys.argv[2], ['cat', 'dog'])\n"
        "print(next(line for line in open('/proc/self/status') if line.startswith('VmHWM')).split()[1])"
    )
    seconds, peak = {}, {}
    forms = {"torch": models.spec, **{name: f"onnx:{models.folder / name}" for name in models.served}}
    for name, model in forms.items():
        runs = []
        for _ in range(3):
            begin = time.perf_counter()
            kilobytes = subprocess.check_output([sys.executable, "-W", "ignore", "-c", program, model, str(PHOTOS[0])])
            runs.append(time.perf_counter() - begin)
            peak[name] = int(kilobytes) / 1024
        seconds[name] = float(np.median(runs))
    results.row("process start to first answer", "s", seconds)
    results.row("its peak memory", "MB", peak)


def ensembles(results: Results, models: Models, *, names: int) -> None:
    """A prompt ensemble: names times the 80 ImageNet templates."""
    encoder, served = models.encoder, models.served["fp32"]
    classes, templates = list(open_clip.IMAGENET_CLASSNAMES[:names]), load_templates("imagenet")
    tokenizer, labels = open_clip.get_tokenizer("ViT-B-32"), parse_labels(classes)
    kept: dict[str, np.ndarray] = {}

    def theirs() -> None:
        built = open_clip.build_zero_shot_classifier(
            encoder.model, tokenizer, classes, open_clip.OPENAI_IMAGENET_TEMPLATES
        )
        kept["theirs"] = built.T.numpy()

    def ours() -> None:
        kept["ours"] = class_matrix(encoder, labels, templates)

    sides = {"open_clip": theirs, "zeroshot, torch": ours, "fp32": lambda: class_matrix(served, labels, templates)}
    seconds = interleave(sides, rounds=3, warmup=0)
    note = f"largest difference of the vectors {np.abs(kept['theirs'] - kept['ours']).max():.0e}"
    _row(results, f"{names} names x 80 templates to class vectors", seconds, "open_clip", note)

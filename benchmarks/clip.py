"""CLIP ViT-B-32 against open_clip's own code and Hugging Face's pipeline, same weights: python -m benchmarks.clip

The weights are random, as speed does not depend on them; give --weights FILE for trained ones. Everything runs in one
process, the sides in turn, medians of the rounds. Takes about half an hour on two cores, of which open_clip's 4,000
prompts take most; --quick uses 10 names instead of 50.
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
from collections.abc import Callable
from pathlib import Path

import numpy as np
import open_clip
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from safetensors.torch import save_file

from benchmarks import hugging_face
from benchmarks.machine import describe_machine, interleave, save_json
from zeroshot import Encoder, ZeroShotClassifier, load_encoder, load_templates
from zeroshot.encoders.export import export
from zeroshot.encoders.openclip import OpenClipEncoder
from zeroshot.images import load
from zeroshot.labels import class_matrix, parse_labels

PHOTOS = sorted((Path(__file__).parent.parent / "examples/photos").glob("*.jpg"))
GFLOP_PER_IMAGE = 8.82  # ViT-B-32's image tower, from open_clip's model profile
PARTS = ("towers", "preprocessing", "one", "many", "starts", "prompts")
ROWS: list[dict[str, object]] = []


def main() -> None:
    """Measure, print and keep the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", default=list(PARTS), help=f"of {', '.join(PARTS)}; all by default")
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    machine = describe_machine(
        "zeroshot", "open_clip_torch", "torch", "torchvision", "transformers", "onnxruntime", "pillow", "numpy"
    )
    print(machine, flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        weights = arguments.weights or random_weights(folder)
        spec = f"ViT-B-32:{weights}"
        encoder = load_encoder(spec, device="cpu", precision="fp32")
        for precision in ("fp32", "int8"):
            export(encoder, folder / precision, pictures=PHOTOS, precision=precision)
        served = {precision: load_encoder(f"onnx:{folder / precision}") for precision in ("fp32", "int8")}
        (folder / "hf").mkdir()
        pipeline = hugging_face.pipeline(encoder.model, folder / "hf")
        runs: dict[str, Callable[[], None]] = {
            "towers": lambda: towers(encoder, served),
            "preprocessing": lambda: preprocessing(encoder),
            "one": lambda: one_picture(encoder, served, pipeline, folder),
            "many": lambda: many_pictures(encoder, served, pipeline, folder),
            "starts": lambda: starts(spec, folder),
            "prompts": lambda: prompts(encoder, served["fp32"], names=10 if arguments.quick else 50),
        }
        for part in arguments.parts:
            runs[part]()
    print(save_json("clip", machine, ROWS))


def random_weights(folder: Path) -> Path:
    """A ViT-B-32 checkpoint with random weights."""
    torch.manual_seed(0)
    save_file(open_clip.create_model("ViT-B-32").state_dict(), folder / "ViT-B-32.safetensors")
    gc.collect()
    return folder / "ViT-B-32.safetensors"


def row(what: str, seconds: dict[str, float], rival: str, note: str = "") -> None:
    """Print and keep one row: every side against the rival."""
    ratios = {side: seconds[rival] / value for side, value in seconds.items() if side != rival}
    ROWS.append({"what": what, "rival": rival, "seconds": seconds, "ratios": ratios, "note": note})
    shown = ", ".join(f"{side} {value * 1000:.1f} ms" for side, value in seconds.items())
    print(f"{what}: {shown}; {', '.join(f'{s} {r:.1f}x' for s, r in ratios.items())} {note}", flush=True)


def towers(encoder: OpenClipEncoder, served: dict[str, Encoder]) -> None:
    """The image tower alone, and its share of the machine's matrix-product rate."""
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
        row(
            f"image tower, batch {batch}",
            seconds,
            "torch eager",
            f"(fp32 at {share:.0%} of {gemm:.0f} GFLOP/s, torch's GEMM)",
        )


def jpeg(image: Image.Image) -> bytes:
    """A picture as a JPEG of quality 90."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def big_jpegs() -> dict[str, bytes]:
    """12-megapixel JPEGs (4000 x 3000, quality 90): what no scale can save is entropy decoding, so detail decides.

    A photo enlarged; the same with a camera's noise; and a mosaic of small photos, denser than any camera's picture.
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


def preprocessing(encoder: OpenClipEncoder) -> None:
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
        note = f"(cosine of the embeddings {theirs @ own:.6f}; of tiny's, whose weights are trained, "
        note += f"{drafted @ whole:.6f})"
        row(f"{name} to tensor", interleave(sides, rounds=15), "open_clip", note)


def one_picture(encoder: Encoder, served: dict[str, Encoder], pipeline: Callable[..., object], folder: Path) -> None:
    """A 640x480 JPEG under labels already seen."""
    path = folder / "one.jpg"
    Image.open(PHOTOS[0]).convert("RGB").resize((640, 480)).save(path, quality=90)
    for count in (10, 100):
        labels = list(open_clip.IMAGENET_CLASSNAMES[:count])
        sides: dict[str, Callable[[], object]] = {
            "Hugging Face": lambda labels=labels: pipeline(str(path), candidate_labels=labels)
        }
        for name, side in (("zeroshot, torch", encoder), ("fp32", served["fp32"]), ("int8", served["int8"])):
            classifier = ZeroShotClassifier(side, labels, templates="This is a photo of {}.")
            sides[name] = lambda classifier=classifier: classifier.classify(path)
        row(f"one 640x480 JPEG, {count} labels", interleave(sides, rounds=7), "Hugging Face")


def many_pictures(encoder: Encoder, served: dict[str, Encoder], pipeline: Callable[..., object], folder: Path) -> None:
    """200 JPEGs of mixed sizes, from files to scores under 10 labels."""
    paths = []
    for number in range(200):
        width = (320, 640, 1024, 1600)[number % 4]
        path = folder / f"{number:03}.jpg"
        Image.open(PHOTOS[number % len(PHOTOS)]).convert("RGB").resize((width, width * 3 // 4)).save(path, quality=90)
        paths.append(str(path))
    labels = list(open_clip.IMAGENET_CLASSNAMES[:10])
    sides: dict[str, Callable[[], object]] = {
        "Hugging Face, batch 8": lambda: pipeline(paths, candidate_labels=labels, batch_size=8)
    }
    for name, side in (("zeroshot, torch", encoder), ("fp32", served["fp32"]), ("int8", served["int8"])):
        classifier = ZeroShotClassifier(side, labels, templates="This is a photo of {}.")
        sides[name] = lambda classifier=classifier: list(classifier.classify_stream(paths))
    row("200 mixed JPEGs end to end", interleave(sides, rounds=3), "Hugging Face, batch 8")


def starts(spec: str, folder: Path) -> None:
    """Cold start and peak memory of a process that loads the model and classifies one picture."""
    program = (
        "import sys, zeroshot\n"
        "zeroshot.ZeroShotClassifier(sys.argv[1]).classify(sys.argv[2], ['cat', 'dog'])\n"
        "print(next(line for line in open('/proc/self/status') if line.startswith('VmHWM')).split()[1])"
    )
    seconds, peak = {}, {}
    for name, model in {"torch": spec, "fp32": f"onnx:{folder / 'fp32'}", "int8": f"onnx:{folder / 'int8'}"}.items():
        runs = []
        for _ in range(3):
            begin = time.perf_counter()
            kilobytes = subprocess.check_output([sys.executable, "-W", "ignore", "-c", program, model, str(PHOTOS[0])])
            runs.append(time.perf_counter() - begin)
            peak[name] = int(kilobytes) / 1024
        seconds[name] = float(np.median(runs))
    note = "(peak memory " + ", ".join(f"{name} {megabytes:.0f} MB" for name, megabytes in peak.items()) + ")"
    row("cold start to first answer", seconds, "torch", note)


def prompts(encoder: OpenClipEncoder, served: Encoder, *, names: int) -> None:
    """A prompt ensemble: names times the 80 ImageNet templates."""
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
    note = f"(largest difference {np.abs(kept['theirs'] - kept['ours']).max():.1e})"
    row(f"{names} names x 80 templates", seconds, "open_clip", note)


if __name__ == "__main__":
    main()

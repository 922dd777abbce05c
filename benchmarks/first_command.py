"""The first command a newcomer runs, and what tiny can do.

* `zeroshot classify` on one photo: seconds and peak memory of the whole process, and whether torch was imported;
* tiny's images/s at batch 8, from decoded 640x480 images, preprocessing included;
* peak memory of one call over 50 and over 500 JPEGs.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

import numpy as np
from PIL import Image

from benchmarks.machine import interleave
from benchmarks.results import Results
from zeroshot import load_encoder

PHOTO = Path(__file__).parent.parent / "examples/photos/coffee.jpg"
MEASURE = """
import resource, sys, time
start = time.perf_counter()
import subprocess
code = subprocess.call([sys.executable, "-X", "importtime", "-m", "zeroshot", *sys.argv[1:]],
                       stdout=subprocess.DEVNULL, stderr=open("{trace}", "w"))
print(time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024, code)
"""


def measure(*arguments: str) -> tuple[float, float, bool]:
    """Seconds, peak MB, and whether torch was imported, of one `zeroshot` process."""
    with tempfile.NamedTemporaryFile("r") as trace:
        program = MEASURE.replace("{trace}", trace.name)
        printed = subprocess.check_output([sys.executable, "-c", program, *arguments], text=True)
        seconds, megabytes, code = (float(word) for word in printed.split())
        if code:
            sys.exit(f"zeroshot {' '.join(arguments)} exited with {code}")
        return seconds, megabytes, "| torch\n" in trace.read()


def main() -> None:
    """Print the figures."""
    results = Results("first-command", ("zeroshot", "onnxruntime", "tokenizers", "pillow", "numpy"))
    runs = [measure("classify", str(PHOTO), "--labels", "cat,dog,cup of coffee") for _ in range(9)]
    note = "torch imported" if any(r[2] for r in runs) else "torch is not imported"
    results.row(
        "zeroshot classify on one photo, the whole process", "s", {"median of 9": median(r[0] for r in runs)}, note=note
    )
    results.row("its peak memory", "MB", {"the largest of 9": max(r[1] for r in runs)})
    encoder = load_encoder("tiny")
    images = [Image.open(PHOTO).convert("RGB").resize((640, 480)) for _ in range(8)]
    pixels = np.stack([encoder.preprocessing(photo) for photo in images])
    seconds = interleave(
        {"encode_images": lambda: encoder.encode_images(images), "tower": lambda: encoder.encode_pixels(pixels)},
        rounds=15,
    )
    rates = {"with preprocessing": 8 / seconds["encode_images"], "the image tower alone": 8 / seconds["tower"]}
    results.row("tiny on 8 decoded 640x480 images", "images/s", rates)
    with tempfile.TemporaryDirectory() as folder:
        image = Image.open(PHOTO).convert("RGB").resize((2000, 1500))
        for count in (50, 500):
            target = Path(folder) / str(count)
            target.mkdir()
            for number in range(count):
                image.save(target / f"{number}.jpg", quality=88)
        for count in (50, 500):
            seconds_taken, megabytes, _ = measure("classify", f"{folder}/{count}", "--labels", "cat,dog", "--json")
            results.row(f"{count} JPEGs of 2000x1500 in one call", "s", {"zeroshot": seconds_taken})
            results.row(f"{count} JPEGs of 2000x1500: peak memory", "MB", {"zeroshot": megabytes})
    results.save()


if __name__ == "__main__":
    main()

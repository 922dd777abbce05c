"""Galleries at size: python -m benchmarks gallery rate|size|names FOLDER [...]

rate   indexes a folder of images, and encodes the same images without a gallery; both in one run, in turn.
size   grows the vectors of a folder's images to a number and a length, stores them, and times opening, searching,
       filtering and re-labelling against the bare FAISS index. Grown vectors lie between a real image's vector and
       one of its twenty nearest neighbours, with noise of the real vectors' spread; shorter ones are the real ones'
       principal components. Nothing else is made up: sentences are embedded by tiny and projected alike.
names  searches a folder with a labels.csv (columns file, name) for each name, and counts whose own image is found.

openclipart-png of Debian is such a folder: apt-get download openclipart-png; dpkg-deb -x openclipart-png*.deb FOLDER
"""

from __future__ import annotations

import argparse
import csv
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import faiss
import numpy as np

from benchmarks.results import Results
from zeroshot import Encoder, load_encoder
from zeroshot.encoders.streaming import encode_stream
from zeroshot.gallery import Gallery, Item, Query
from zeroshot.gallery.ingest import index_files
from zeroshot.gallery.ivf_index import snapshot_paths
from zeroshot.labels import LabelSet, load_label_set, parse_labels

QUERIES = 200
LABELS = ["animal", "food", "tool", "building", "vehicle", "person", "plant", "logo", "map", "flag", "furniture",
          "clothing", "toy", "instrument", "weapon", "computer", "sign", "pattern", "sport", "weather"]  # fmt: skip


SEARCHES = {"0.1 %": "a filter that 0.1 % match", "50 %": "a filter that 50 % match", "exact": "exact=True"}


class Shorter:
    """tiny, its vectors projected on their first principal components."""

    def __init__(self, tiny: Encoder, axes: np.ndarray) -> None:
        self._tiny, self._axes = tiny, axes
        self.spec, self.dim, self.fingerprint = f"tiny/{axes.shape[1]}", axes.shape[1], f"{axes.shape[1]:064}"
        self.logit_scale, self.logit_bias, self.template_set = tiny.logit_scale, None, tiny.template_set
        self.preprocessing = tiny.preprocessing

    def encode_texts(self, texts: Any) -> np.ndarray:
        return project(self._tiny.encode_texts(texts), self._axes)

    def encode_pixels(self, pixels: Any) -> np.ndarray:
        return project(self._tiny.encode_pixels(pixels), self._axes)


def project(vectors: np.ndarray, axes: np.ndarray) -> np.ndarray:
    shorter = vectors @ axes
    return shorter / np.linalg.norm(shorter, axis=1, keepdims=True)


def images_in(folder: Path) -> list[str]:
    return sorted(str(path) for path in folder.rglob("*.png"))


def rate(folder: Path, count: int) -> None:
    tiny = load_encoder("tiny")
    files = images_in(folder)[:count]
    seconds: dict[str, list[float]] = {"encoding alone": [], "index": []}
    for turn in range(3):
        start = time.perf_counter()
        encoded = sum(not isinstance(outcome, Exception) for _, outcome in encode_stream(tiny, iter(files)))
        seconds["encoding alone"].append(time.perf_counter() - start)
        with tempfile.TemporaryDirectory() as home, Gallery(home, "g", tiny, create=True) as gallery:
            start = time.perf_counter()
            report = index_files(gallery, files)
            seconds["index"].append(time.perf_counter() - start)
            if report.added != encoded:
                raise SystemExit(f"{report.added} stored, {encoded} encoded")
        print(f"turn {turn + 1}: {seconds}", flush=True)
    rates = {side: len(files) / median(times) for side, times in seconds.items()}
    results = _results()
    results.row(f"{len(files):,} images with tiny: encoding alone, and zeroshot index", "images/s", rates)
    results.save()


def grown(real: np.ndarray, count: int) -> Iterator[np.ndarray]:
    random = np.random.default_rng(0)
    near = np.argpartition(-(real @ real.T), 20, axis=1)[:, :20]
    spread = real.std(axis=0)
    for start in range(0, count, 20_000):
        size = min(20_000, count - start)
        one = random.integers(len(real), size=size)
        other = near[one, random.integers(20, size=size)]
        share = random.uniform(0.5, 1, size=(size, 1)).astype(np.float32)
        rows = share * real[one] + (1 - share) * real[other]
        rows += 0.4 * spread * random.normal(size=rows.shape).astype(np.float32)
        yield (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def real_vectors(folder: Path, cache: Path) -> np.ndarray:
    if not cache.exists():
        outcomes = (vector for _, vector in encode_stream(load_encoder("tiny"), iter(images_in(folder))))
        np.save(cache, np.stack([vector for vector in outcomes if not isinstance(vector, Exception)]))
    return np.load(cache)


def size(folder: Path, count: int, dim: int, work: Path, storage: str | None) -> None:
    work.mkdir(parents=True, exist_ok=True)
    real = real_vectors(folder, work / "real.npy")
    axes = np.linalg.svd(real, full_matrices=False)[2][:dim].T
    encoder: Any = Shorter(load_encoder("tiny"), axes)
    name = f"n{count}d{dim}"
    fresh = not (work / "galleries" / name).exists()
    start = time.perf_counter()
    with Gallery(work, name, encoder, create=True, exact_up_to=10**9) as gallery:
        if fresh:
            number = 0
            for rows in grown(project(real, axes), count):
                gallery.add(
                    (Item(f"{number + row}", metadata={"rare": (number + row) % 1000 == 7, "half": row % 2}), vector)
                    for row, vector in enumerate(rows)
                )
                number += len(rows)
            print(f"stored in {time.perf_counter() - start:.0f} s", flush=True)
            start = time.perf_counter()
        if fresh or storage is not None:
            gallery.build_index(quantization=storage)
            print(f"index built in {time.perf_counter() - start:.0f} s", flush=True)
    opening = subprocess.run(
        [sys.executable, "-m", "benchmarks", "gallery", "opened", str(folder), "--work", str(work),
         "--count", str(count), "--dim", str(dim)], capture_output=True, text=True, check=True,
    )  # fmt: skip
    print(opening.stdout, flush=True)


def opened(folder: Path, count: int, dim: int, work: Path) -> None:
    """In a process of its own, so that memory is what opening and searching take."""
    real = real_vectors(folder, work / "real.npy")
    axes = np.linalg.svd(real, full_matrices=False)[2][:dim].T
    encoder: Any = Shorter(load_encoder("tiny"), axes)
    random = np.random.default_rng(1)
    before = resident_bytes()
    start = time.perf_counter()
    gallery = Gallery(work, f"n{count}d{dim}", encoder)
    seconds_to_open = time.perf_counter() - start
    snapshot = gallery._index.snapshot
    numbers = np.sort(random.choice(gallery._store.numbers(), QUERIES, replace=False))
    images = gallery._store.vectors_of(numbers.tolist())[1]
    names = [label.name for label in load_label_set("oxford-pets").labels + load_label_set("everyday").labels]
    sentences = encoder.encode_texts([f"a picture of {name}" for name in names])
    for query in images:
        gallery.search(Query(vector=query), where={"rare": True, "half": 1})  # the first reads the fields
        gallery.search(Query(vector=query))
    labels = LabelSet("custom", parse_labels(LABELS))
    gallery.classify(labels)
    start = time.perf_counter()
    gallery.classify(labels)
    relabelled = time.perf_counter() - start
    results, size_of = _results(), f"{count:,} x {dim}"
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    results.row(f"{size_of}: opening, checksums included", "s", {"zeroshot": seconds_to_open})
    results.row(f"{size_of}: re-labelling everything under 20 labels", "s", {"zeroshot": relabelled})
    facts = snapshot.facts
    lists = f"{snapshot.list_count:,} lists, of which a search looks into {facts.nprobe}, as {facts.quantization}"
    memory = {"zeroshot": (resident_bytes() - before) / (count * dim * 4)}
    results.row(
        f"{size_of}: memory over that of the raw float32 vectors", "", memory, note=f"{lists}; {peak:,.0f} MB at most"
    )
    snapshot._index.nprobe = snapshot.facts.nprobe
    as_it_comes = faiss.read_index(str(snapshot_paths(gallery.folder, snapshot.facts.token)[0]))
    as_it_comes.nprobe = snapshot.facts.nprobe

    def same(query: np.ndarray) -> object:
        """The gallery's own FAISS index, set up for one query on every core as the gallery does."""
        return snapshot._index.search(query[np.newaxis], 10)

    def default(query: np.ndarray) -> object:
        """The same file, read into memory with FAISS's defaults: one query, one core."""
        return as_it_comes.search(query[np.newaxis], 10)

    def ours(query: np.ndarray, **options: Any) -> list[int]:
        return [int(hit.item.id) for hit in gallery.search(Query(vector=query), top_k=10, **options)]

    for kind, queries in (("images", images), ("sentences", sentences)):
        truth = truth_of(gallery, queries, lambda _: True)
        found = [ours(query) for query in queries]
        times = in_turn({"FAISS as it comes": default, "FAISS on every core": same, "Gallery": ours}, queries)
        note = f"recall@10 {recall(found, truth):.3f}"
        results.row(f"{size_of}, {kind}: one search, p50", "ms", times, rival="FAISS as it comes", note=note)
    _unusual(results, size_of, gallery, images, ours)
    gallery.close()
    results.save()


def _unusual(
    results: Results, size_of: str, gallery: Gallery, images: np.ndarray, ours: Callable[..., list[int]]
) -> None:
    """With filters, and compared with everything."""
    images = images[:50]
    searches: dict[str, tuple[dict[str, Any], list[list[int]] | None]] = {
        "no filter": ({}, None),
        "0.1 %": ({"where": {"rare": True}}, truth_of(gallery, images, lambda n: n % 1000 == 7)),
        "50 %": ({"where": {"half": 1}}, truth_of(gallery, images, lambda n: (n % 20_000) % 2 == 1)),
        "exact": ({"exact": True}, truth_of(gallery, images, lambda _: True)),
    }
    times = in_turn({key: lambda query, o=options: ours(query, **o) for key, (options, _) in searches.items()}, images)
    for key, (options, truth) in searches.items():
        if truth is not None:
            found = [ours(query, **options) for query in images]
            note = f"recall@10 {recall(found, truth):.3f}"
            sides = {"unfiltered": times["no filter"], "so": times[key]}
            results.row(f"{size_of}, {SEARCHES[key]}: p50", "ms", sides, note=note)


def in_turn(sides: dict[str, Callable[[np.ndarray], object]], queries: np.ndarray) -> dict[str, float]:
    """Median milliseconds per query, each query to every side before the next."""
    seconds: dict[str, list[float]] = {side: [] for side in sides}
    for query in queries:
        for side, run in sides.items():
            run(query)  # both sides find the same lists in the processor's cache, or neither would
            start = time.perf_counter()
            run(query)
            seconds[side].append(time.perf_counter() - start)
    return {side: round(median(times) * 1000, 3) for side, times in seconds.items()}


def truth_of(gallery: Gallery, queries: np.ndarray, wanted: Callable[[int], bool]) -> list[list[int]]:
    """Ids of the ten nearest among those wanted, by comparing with every stored float32 vector."""
    best: list[tuple[np.ndarray, np.ndarray]] = []
    for numbers, vectors in gallery._store.vectors():
        own = np.asarray(numbers) - 1  # numbers go up from 1, ids from 0
        kept = np.array([wanted(int(id_)) for id_ in own])
        if kept.any():
            best.append((own[kept], queries @ vectors[kept].T))
            if len(best) == 64:
                best = [top(best)]
    found, similarities = top(best)
    order = np.argsort(-similarities, axis=1)
    return np.take_along_axis(found, order, axis=1).tolist()


def top(parts: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    shape = parts[0][1].shape[0]
    ids = np.concatenate([np.broadcast_to(ids, (shape, ids.shape[-1])) for ids, _ in parts], axis=1)
    similarities = np.concatenate([part for _, part in parts], axis=1)
    best = np.argpartition(-similarities, 9, axis=1)[:, :10]
    return np.take_along_axis(ids, best, axis=1), np.take_along_axis(similarities, best, axis=1)


def recall(found: list[list[int]], truth: list[list[int]]) -> float:
    return round(float(np.mean([len(set(a) & set(b)) / len(b) for a, b in zip(found, truth, strict=True)])), 4)


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def names(folder: Path) -> None:
    with (folder / "labels.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    with tempfile.TemporaryDirectory() as home, Gallery(home, "g", load_encoder("tiny"), create=True) as gallery:
        files = {str((folder / row["file"]).resolve()): row["name"] for row in rows}
        index_files(gallery, list(files))
        wanted = sorted(set(files.values()))
        ranks = []
        for name in wanted:
            hits = gallery.search(name, top_k=5)
            ranks.append(next((rank for rank, hit in enumerate(hits) if files[hit.item.id] == name), 99))
    results = _results()
    shares = {
        "first": float(np.mean([r == 0 for r in ranks])),
        "in the first five": float(np.mean([r < 5 for r in ranks])),
    }
    results.row(f"text search with tiny, {len(wanted)} names in {len(files)} images: own image", "", shares)
    results.save()


def _results() -> Results:
    return Results("gallery", ("zeroshot", "faiss-cpu", "numpy", "onnxruntime"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["rate", "size", "opened", "names"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=100_000, help="Vectors to grow to, or images to index.")
    parser.add_argument("--dim", type=int, default=640)
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "zeroshot-gallery-benchmark")
    parser.add_argument("--storage", choices=["float16", "int8"])
    options = parser.parse_args()
    if options.what == "rate":
        rate(options.folder, options.count)
    elif options.what == "names":
        names(options.folder)
    elif options.what == "size":
        size(options.folder, options.count, options.dim, options.work, options.storage)
    else:
        opened(options.folder, options.count, options.dim, options.work)


if __name__ == "__main__":
    main()

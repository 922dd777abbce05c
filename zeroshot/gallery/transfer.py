"""Galleries as plain files: NumPy vectors beside Parquet metadata, in the folder layout of clip-retrieval.

``img_emb/img_emb_0000.npy`` holds (n, dim) float32 rows and ``metadata/metadata_0000.parquet`` the same n items, in
their order; clip-retrieval indexes such a folder as it is, and what its ``inference`` writes is read here.
``gallery.json`` names the model.
"""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from zeroshot.encoders import FloatArray
from zeroshot.errors import GalleryError, GalleryMismatch, quote
from zeroshot.gallery.gallery import Gallery
from zeroshot.gallery.types import Item
from zeroshot.optional import require

FORMAT = 1
_ROWS_PER_FILE = 100_000
_ROWS_AT_ONCE = 2_000
_OWN_COLUMNS = ("uri", "sha256", "width", "height", "file_size", "file_mtime_ns")


def export_gallery(
    gallery: Gallery, folder: str | Path, *, on_progress: Callable[[int], object] = lambda _: None
) -> int:
    """Write a gallery's items and vectors into a new folder."""
    pyarrow, parquet = _pyarrow()
    target = Path(folder)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise GalleryError(f"{target} exists and is not empty.", "Give a new folder.")
    unfinished = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}")
    written = 0
    try:
        for kind in ("img_emb", "metadata"):
            (unfinished / kind).mkdir(parents=True)
        for part, (items, vectors) in enumerate(_in_files(gallery, on_progress)):
            np.save(unfinished / "img_emb" / f"img_emb_{part:04}.npy", vectors)
            table = pyarrow.Table.from_pylist([_to_row(item) for item in items], schema=_schema(pyarrow))
            parquet.write_table(table, unfinished / "metadata" / f"metadata_{part:04}.parquet")
            written += len(items)
        about = {
            "format": FORMAT, "name": gallery.name, "count": written, "dim": gallery.encoder.dim,
            "model": gallery.encoder.spec, "fingerprint": gallery.encoder.fingerprint,
        }  # fmt: skip
        (unfinished / "gallery.json").write_text(json.dumps(about, indent=2) + "\n")
        if target.exists():
            target.rmdir()
        unfinished.rename(target)
    except OSError as error:
        raise GalleryError(
            f"{target} could not be written: {error}.", "Check the disk's space and permissions."
        ) from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return written


def import_gallery(
    gallery: Gallery,
    folder: str | Path,
    *,
    replace: bool = False,
    on_progress: Callable[[int], object] = lambda _: None,
) -> int:
    """Add the items of a folder that ``export_gallery`` or clip-retrieval's inference wrote."""
    _pyarrow()
    source = Path(folder)
    _check_model(gallery, source)
    pairs = list(zip(sorted(source.glob("img_emb/*.npy")), sorted(source.glob("metadata/*.parquet")), strict=False))
    if not pairs or len(pairs) != len(list(source.glob("img_emb/*.npy"))):
        raise GalleryError(
            f"{source} has no img_emb/*.npy with as many metadata/*.parquet beside them.",
            "Give a folder that zeroshot gallery export or clip-retrieval inference wrote.",
        )
    stored = 0
    with gallery.writing():
        for vectors_path, metadata_path in pairs:
            for rows in _read_pair(gallery, vectors_path, metadata_path):
                stored += gallery.add(rows, replace=replace)
                on_progress(len(rows))
    return stored


def count_rows(folder: str | Path) -> int:
    """Count the vectors in an exported folder."""
    total = 0
    for path in Path(folder).glob("img_emb/*.npy"):
        try:
            total += len(np.load(path, mmap_mode="r", allow_pickle=False))
        except (OSError, ValueError, TypeError):
            continue  # import_gallery raises the error
    return total


def _in_files(gallery: Gallery, on_progress: Callable[[int], object]) -> Iterator[tuple[list[Item], FloatArray]]:
    items: list[Item] = []
    vectors: list[FloatArray] = []
    for part, rows in gallery.everything():
        items += part
        vectors.append(rows)
        on_progress(len(part))
        if len(items) >= _ROWS_PER_FILE:
            yield items, np.concatenate(vectors)
            items, vectors = [], []
    if items:
        yield items, np.concatenate(vectors)


def _read_pair(gallery: Gallery, vectors_path: Path, metadata_path: Path) -> Iterator[list[tuple[Item, FloatArray]]]:
    _, parquet = _pyarrow()
    try:
        vectors = np.load(vectors_path, mmap_mode="r", allow_pickle=False)
        file = parquet.ParquetFile(metadata_path)
        count = file.metadata.num_rows
    except Exception as error:  # NumPy and Arrow raise many kinds
        raise GalleryError(f"{vectors_path} or its metadata cannot be read: {error}.", "Export it again.") from error
    if vectors.ndim != 2 or vectors.shape[1] != gallery.encoder.dim:
        raise GalleryMismatch(
            f"{vectors_path} holds vectors of shape {vectors.shape}; {gallery.encoder.spec} has {gallery.encoder.dim}.",
            "Import them into a gallery of the model they were made with.",
        )
    if len(vectors) != count:
        raise GalleryError(
            f"{vectors_path} has {len(vectors):,} rows and {metadata_path} {count:,}.", "Export them again."
        )
    position = 0
    for batch in file.iter_batches(batch_size=_ROWS_AT_ONCE):
        rows = np.asarray(vectors[position : position + len(batch)], dtype=np.float32)
        norms = np.linalg.norm(rows, axis=1, keepdims=True)
        if not (np.isfinite(norms).all() and (norms > 0).all()):
            raise GalleryError(f"{vectors_path} has a row that is zero or not finite.", "Export it again.")
        exact = np.abs(norms - 1) < 1e-6  # our own export comes back bit by bit
        rows = np.where(exact, rows, rows / norms)
        yield [(_to_item(fields), row) for fields, row in zip(batch.to_pylist(), rows, strict=True)]
        position += len(batch)


def _check_model(gallery: Gallery, folder: Path) -> None:
    about = folder / "gallery.json"
    if not about.exists():
        return  # clip-retrieval writes none; only the vectors' length can be checked
    try:
        facts = json.loads(about.read_text())
        fingerprint, spec = facts["fingerprint"], facts["model"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise GalleryError(f"{about} cannot be read: {error!r}.", "Export the gallery again.") from error
    if fingerprint != gallery.encoder.fingerprint:
        raise GalleryMismatch(
            f"{folder} holds vectors of {quote(spec)}, not of {gallery.encoder.spec} as {gallery.name} does.",
            "Import it with that model, into a gallery of its own.",
        )


def _to_row(item: Item) -> dict[str, Any]:
    metadata = json.dumps(item.metadata, ensure_ascii=False)
    own = {column: getattr(item, column) for column in _OWN_COLUMNS}
    return {"id": item.id, "image_path": item.uri or item.id, **own, "metadata_json": metadata}


def _to_item(fields: dict[str, Any]) -> Item:
    if "metadata_json" in fields and "id" in fields:
        own = {column: fields.get(column) for column in _OWN_COLUMNS}
        return Item(fields["id"], metadata=json.loads(fields["metadata_json"] or "{}"), **own)
    uri = fields.pop("image_path", None) or fields.pop("url", None)
    key = fields.pop("id", None) or uri or fields.get("key") or uuid.uuid4().hex
    metadata = {name: value for name, value in fields.items() if value is not None}
    return Item(str(key), None if uri is None else str(uri), metadata=json.loads(json.dumps(metadata, default=str)))


def _schema(pyarrow: Any) -> Any:
    text, number = pyarrow.string(), pyarrow.int64()
    own = {"uri": text, "sha256": text, "width": number, "height": number, "file_size": number, "file_mtime_ns": number}
    return pyarrow.schema({"id": text, "image_path": text, **own, "metadata_json": text})


def _pyarrow() -> tuple[Any, Any]:
    return require("pyarrow", "parquet"), require("pyarrow.parquet", "parquet")

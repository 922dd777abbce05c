"""Galleries as files: out and in again bit by bit, and readable by clip-retrieval's own reader."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from embedding_reader import EmbeddingReader

from tests.vectors import unit
from zeroshot import Encoder
from zeroshot.errors import GalleryError, GalleryMismatch, ItemExists
from zeroshot.gallery import Gallery, Item, transfer
from zeroshot.gallery.transfer import count_rows, export_gallery, import_gallery

ITEMS = [
    (
        Item("ü/a.jpg", "/images/a.jpg", "ab" * 32, 640, 480, 123, 456, {"tags": ["x"], "n": 1.5, "none": None}),
        unit(1),
    ),
    (Item("b"), unit(2)),
    (Item("c", metadata={"id": "not the id"}), unit(3)),
]


@pytest.fixture
def exported(tmp_path: Path, tiny: Encoder) -> Path:
    with Gallery(tmp_path, "source", tiny, create=True) as gallery:
        gallery.add(ITEMS)
        assert export_gallery(gallery, tmp_path / "out") == 3
    return tmp_path / "out"


def test_a_gallery_comes_back_bit_by_bit(exported: Path, tmp_path: Path, tiny: Encoder) -> None:
    assert count_rows(exported) == 3
    with Gallery(tmp_path, "copy", tiny, create=True) as gallery:
        assert import_gallery(gallery, exported) == 3
        for item, vector in ITEMS:
            stored, row = gallery.get(item.id)
            assert stored == item
            np.testing.assert_array_equal(row, vector)
        with pytest.raises(ItemExists):
            import_gallery(gallery, exported)
        assert import_gallery(gallery, exported, replace=True) == 3
        assert len(gallery) == 3


def test_clip_retrieval_reads_it(exported: Path) -> None:
    reader = EmbeddingReader(
        str(exported / "img_emb"), metadata_folder=str(exported / "metadata"), meta_columns=["image_path", "id"],
        file_format="parquet_npy",
    )  # fmt: skip
    assert (reader.count, reader.dimension) == (3, 640)
    vectors, rows = next(iter(reader(batch_size=10, start=0, end=3, show_progress=False)))
    np.testing.assert_array_equal(vectors, np.stack([vector for _, vector in ITEMS]))
    assert rows["image_path"].tolist() == ["/images/a.jpg", "b", "c"]
    assert rows["id"].tolist() == ["ü/a.jpg", "b", "c"]


def test_large_galleries_are_written_in_parts(tmp_path: Path, tiny: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "_ROWS_PER_FILE", 2000)
    rows = np.eye(640, dtype=np.float32)
    with Gallery(tmp_path, "source", tiny, create=True) as gallery:
        gallery.add((Item(f"{n}"), rows[n % 640]) for n in range(5000))
        seen: list[int] = []
        export_gallery(gallery, tmp_path / "out", on_progress=seen.append)
    assert sum(seen) == 5000
    assert [len(np.load(path)) for path in sorted((tmp_path / "out/img_emb").iterdir())] == [2000, 2000, 1000]
    with Gallery(tmp_path, "copy", tiny, create=True) as gallery:
        assert import_gallery(gallery, tmp_path / "out") == 5000
        np.testing.assert_array_equal(gallery.get("4321")[1], rows[4321 % 640])


def test_what_clip_retrieval_writes_is_taken(tmp_path: Path, tiny: Encoder) -> None:
    """Its inference writes float16 vectors and these columns, among others."""
    for folder in ("img_emb", "metadata"):
        (tmp_path / "clip" / folder).mkdir(parents=True)
    vectors = np.stack([unit(1), 2 * unit(2)]).astype(np.float16)
    np.save(tmp_path / "clip/img_emb/img_emb_0.npy", vectors)
    table = pyarrow.table({"image_path": ["/p/1.jpg", "/p/2.jpg"], "caption": ["a cat", None], "NSFW": [0.1, 0.2]})
    pyarrow.parquet.write_table(table, tmp_path / "clip/metadata/metadata_0.parquet")
    with Gallery(tmp_path, "g", tiny, create=True) as gallery:
        assert import_gallery(gallery, tmp_path / "clip") == 2
        item, vector = gallery.get("/p/2.jpg")
        assert item == Item("/p/2.jpg", "/p/2.jpg", metadata={"NSFW": 0.2})
        assert float(np.linalg.norm(vector)) == pytest.approx(1, abs=1e-6)
        assert float(vector @ unit(2)) == pytest.approx(1, abs=1e-5)
        assert gallery.list_items({"caption": "a cat"})[0].id == "/p/1.jpg"


def change_model(folder: Path) -> None:
    about = json.loads((folder / "gallery.json").read_text())
    (folder / "gallery.json").write_text(json.dumps(about | {"fingerprint": "0" * 64, "model": "other"}))


@pytest.mark.parametrize(
    ("spoil", "error", "message"),
    [
        (change_model, GalleryMismatch, "vectors of 'other'"),
        (lambda folder: (folder / "gallery.json").write_text("{"), GalleryError, "cannot be read"),
        (lambda folder: np.save(folder / "img_emb/img_emb_0000.npy", np.eye(3)), GalleryMismatch, "shape"),
        (lambda folder: np.save(folder / "img_emb/img_emb_0000.npy", np.ones((2, 640))), GalleryError, "2 rows"),
        (lambda folder: np.save(folder / "img_emb/img_emb_0000.npy", np.zeros((3, 640))), GalleryError, "zero"),
        (lambda folder: (folder / "img_emb/img_emb_0000.npy").write_bytes(b"x"), GalleryError, "cannot be read"),
        (lambda folder: (folder / "metadata/metadata_0000.parquet").write_bytes(b"x"), GalleryError, "cannot be read"),
        (lambda folder: (folder / "metadata/metadata_0000.parquet").unlink(), GalleryError, "as many"),
    ],
)
def test_bad_folders_are_refused_with_nothing_stored(
    exported: Path,
    tmp_path: Path,
    tiny: Encoder,
    spoil: Callable[[Path], object],
    error: type[GalleryError],
    message: str,
) -> None:
    spoil(exported)
    with Gallery(tmp_path, "copy", tiny, create=True) as gallery:
        with pytest.raises(error, match=message):
            import_gallery(gallery, exported)
        assert len(gallery) == 0


def test_a_folder_in_use_is_left_alone(exported: Path, tmp_path: Path, tiny: Encoder) -> None:
    before = sorted(path.name for path in exported.rglob("*"))
    with Gallery(tmp_path, "source", tiny) as gallery:
        with pytest.raises(GalleryError, match="not empty"):
            export_gallery(gallery, exported)
        (tmp_path / "file").write_text("x")
        with pytest.raises(GalleryError, match="could not be written"):
            export_gallery(gallery, tmp_path / "file" / "below")
    assert sorted(path.name for path in exported.rglob("*")) == before
    assert not list(tmp_path.glob(".out*"))

"""Large galleries: the approximate index is right, follows along, and is never trusted further than its checksums."""

from __future__ import annotations

import json
import resource
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from tests.conftest import environment
from tests.vectors import StubEncoder, clustered, unit
from zeroshot import Encoder, load_encoder
from zeroshot.errors import GalleryError, OptionError
from zeroshot.gallery import Gallery, Item, Query
from zeroshot.gallery.catalog import DATABASE

DIM = 640
COUNT = 3000
VECTORS = clustered(COUNT, DIM)
QUERIES = clustered(50, DIM, seed=7)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a gallery of some thousand items and a snapshot."""
    home = tmp_path_factory.mktemp("built")
    with Gallery(home, "g", load_encoder("tiny"), create=True) as gallery:
        gallery.add((Item(f"{n:04}", metadata={"n": n, "rare": n % 500 == 3}), row) for n, row in enumerate(VECTORS))
        gallery.build_index()
    return home


@pytest.fixture
def home(built: Path, tmp_path: Path) -> Path:
    """A copy to write to."""
    return Path(shutil.copytree(built, tmp_path / "home"))


def nearest(query: np.ndarray, vectors: dict[str, np.ndarray], top_k: int = 10) -> list[str]:
    return sorted(vectors, key=lambda id_: -float(vectors[id_] @ query))[:top_k]


def ids(gallery: Gallery, query: np.ndarray, **options: object) -> list[str]:
    return [hit.item.id for hit in gallery.search(Query(vector=query), **options)]


EVERYTHING = {f"{n:04}": row for n, row in enumerate(VECTORS)}


def recall_of(gallery: Gallery, **options: object) -> float:
    found = [len(set(ids(gallery, query, **options)) & set(nearest(query, EVERYTHING))) for query in QUERIES]
    return float(np.mean(found)) / 10


def test_the_approximate_index_reaches_its_recall_with_exact_similarities(built: Path, tiny: Encoder) -> None:
    with Gallery(built, "g", tiny) as gallery:
        statistics = gallery.statistics()
        assert statistics.index.startswith("IVF")
        assert statistics.indexed == COUNT
        assert statistics.nprobe < int(statistics.index[3:].split(",")[0])  # it does not look everywhere
        assert statistics.recall >= 0.99
        assert recall_of(gallery) >= 0.99
        assert recall_of(gallery, exact=True) == 1
        for hit in gallery.search(Query(vector=QUERIES[0]), exact=True):
            assert hit.similarity == pytest.approx(float(EVERYTHING[hit.item.id] @ QUERIES[0]), abs=1e-6)


def test_filters_are_exact_when_matches_are_rare_and_hold_always(built: Path, tiny: Encoder) -> None:
    rare = {id_: row for id_, row in EVERYTHING.items() if int(id_) % 500 == 3}
    half = {id_: row for id_, row in EVERYTHING.items() if int(id_) < COUNT // 2}
    with Gallery(built, "g", tiny) as gallery:
        for query in QUERIES:
            assert ids(gallery, query, where={"rare": True}) == nearest(query, rare)
            found = ids(gallery, query, where={"n": {"lt": COUNT // 2}})
            assert set(found) <= set(half)
            assert len(found) == 10
            assert ids(gallery, query, where={"n": {"lt": COUNT // 2}}, exact=True) == nearest(query, half)
        assert ids(gallery, QUERIES[0], where={"n": -1}) == []
        assert len(gallery.list_items({"rare": True})) == COUNT // 500
        assert [item.id for item in gallery.list_items({"rare": True}, limit=2, after="0003")] == ["0503", "1003"]


def test_a_reopened_gallery_replays_what_came_after_the_snapshot(home: Path, tiny: Encoder) -> None:
    with Gallery(home, "g", tiny) as gallery:
        gallery.add([(Item("new"), unit(1)), (Item("0007"), unit(2))], replace=True)
        gallery.delete(["0100"])
    with Gallery(home, "g", tiny) as again:
        assert again.statistics().indexed == COUNT
        assert again._index.recent_count == 2
        assert ids(again, unit(1), top_k=1) == ["new"]
        assert ids(again, unit(2), top_k=1) == ["0007"]
        assert "0100" not in ids(again, VECTORS[100])
        assert "0007" not in ids(again, VECTORS[7])
        assert not again.verify().repaired
        again.build_index()
        assert again._index.recent_count == 0
        assert ids(again, unit(1), top_k=1) == ["new"]
        assert len(list(again.folder.glob("index-*"))) == 2  # the old one's files are gone


def test_what_is_removed_is_not_found_however_much_of_it_there_was(home: Path, tiny: Encoder) -> None:
    query = VECTORS[0]
    order = nearest(query, EVERYTHING, COUNT)
    with Gallery(home, "g", tiny) as gallery:
        removed = 0
        for more in (1, 5, 30, 500, 2000):  # some of the nearest, all of the nearest, most of everything
            gallery.delete(order[removed : removed + more])
            removed += more
            assert ids(gallery, query, exact=True, top_k=20) == order[removed : removed + 20]
            assert not set(ids(gallery, query, top_k=20)) & set(order[:removed])
        assert not gallery.verify().repaired


def test_one_process_sees_what_another_writes_and_builds(home: Path, tiny: Encoder) -> None:
    with Gallery(home, "g", tiny) as reader, Gallery(home, "g", tiny) as writer:
        assert ids(reader, unit(1), top_k=1) != ["new"]
        writer.add([(Item("new"), unit(1))])
        assert ids(reader, unit(1), top_k=1) == ["new"]
        writer.delete(["0000", "new"])
        assert "0000" not in ids(reader, VECTORS[0])
        writer.build_index()
        writer.add([(Item("newer"), unit(3))])
        assert ids(reader, unit(3), top_k=1) == ["newer"]
        assert reader.statistics().indexed == COUNT - 1
        assert not reader.verify().repaired


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def damage(which: str, how: Callable[[Path], object]) -> Callable[[Path], object]:
    return lambda folder: [how(path) for path in folder.glob(which)]


def make_older(folder: Path) -> None:
    with sqlite3.connect(folder / DATABASE) as database:
        (text,) = database.execute("SELECT value FROM facts WHERE key = 'snapshot'").fetchone()
        database.execute(
            "UPDATE facts SET value = ? WHERE key = 'snapshot'", (json.dumps(json.loads(text) | {"format": 0}),)
        )


@pytest.mark.parametrize(
    "damaged",
    [
        damage("index-*.faiss", Path.unlink),
        damage("index-*.npy", Path.unlink),
        damage("index-*.faiss", truncate),
        damage("index-*.faiss", flip),
        damage("index-*.npy", flip),
        make_older,
    ],
    ids=["missing", "numbers missing", "truncated", "flipped", "numbers flipped", "older format"],
)
def test_a_snapshot_that_is_not_as_written_is_not_used(
    home: Path, tiny: Encoder, damaged: Callable[[Path], object]
) -> None:
    damaged(home / "galleries" / "g")
    with Gallery(home, "g", tiny) as gallery:
        assert gallery.statistics().index == "exact"
        assert recall_of(gallery) == 1
        assert not gallery.verify().repaired
        gallery.build_index()
        assert gallery.statistics().indexed == COUNT


def test_a_restored_backup_does_not_take_a_later_snapshot(home: Path, tiny: Encoder) -> None:
    path = home / "galleries" / "g" / DATABASE
    backup = path.read_bytes()
    with Gallery(home, "g", tiny) as gallery:
        gallery.delete([f"{n:04}" for n in range(100)])
        gallery.build_index()
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    path.write_bytes(backup)
    with Gallery(home, "g", tiny) as again:
        assert len(again) == COUNT
        assert recall_of(again) == 1


def test_reading_goes_on_while_the_index_is_built(home: Path, tiny: Encoder) -> None:
    with Gallery(home, "g", tiny) as gallery:
        builder = threading.Thread(target=gallery.build_index)
        builder.start()
        searched = 0
        while builder.is_alive():
            query = QUERIES[searched % len(QUERIES)]
            assert ids(gallery, query, exact=True) == nearest(query, EVERYTHING)
            searched += 1
        builder.join()
        assert searched > 3
        assert recall_of(gallery) >= 0.99


def test_a_growing_gallery_builds_its_index_by_itself(tmp_path: Path, tiny: Encoder) -> None:
    with Gallery(tmp_path, "g", tiny, create=True, exact_up_to=500) as gallery:
        gallery.add((Item(f"{n:04}"), row) for n, row in enumerate(VECTORS[:400]))
        assert gallery.statistics().index == "exact"
        gallery.add((Item(f"{n:04}"), row) for n, row in enumerate(VECTORS[400:1000], start=400))
        gallery.wait_for_index()
        assert gallery.statistics().indexed == 1000
        assert not gallery.needs_index
        assert ids(gallery, VECTORS[900], top_k=1) == ["0900"]


def test_int8_takes_half_the_memory_and_keeps_its_recall(home: Path, tiny: Encoder) -> None:
    folder = home / "galleries" / "g"
    before = sum(path.stat().st_size for path in folder.glob("index-*.faiss"))
    with Gallery(home, "g", tiny) as gallery:
        gallery.compact(quantization="int8")
        assert sum(path.stat().st_size for path in folder.glob("index-*.faiss")) < 0.6 * before
        assert gallery.statistics().index.endswith("int8")
        assert recall_of(gallery) >= 0.99
        assert not gallery.verify().repaired
        gallery.build_index()
        assert gallery.statistics().index.endswith("int8")  # it stays until told otherwise
        with pytest.raises(OptionError, match="'int4'"):
            gallery.build_index(quantization="int4")


def test_verify_rebuilds_an_index_that_lost_something(home: Path, tiny: Encoder) -> None:
    with Gallery(home, "g", tiny) as gallery:
        gallery._index.snapshot.remove(gallery._index.snapshot.numbers[[5, 6, 7]])
        gallery._index._recent.add([10**6], unit(1)[np.newaxis])
        found = gallery.verify()
        assert (found.count, found.missing, found.surplus, found.different) == (COUNT, 3, 1, 0)
        assert found.repaired
        assert not gallery.verify().repaired
        assert gallery.statistics().indexed == COUNT
        assert recall_of(gallery, exact=True) == 1


def test_searches_in_other_threads_go_on_beside_verify(home: Path, tiny: Encoder) -> None:
    with Gallery(home, "g", tiny) as gallery:
        searching = threading.Event()

        def search() -> None:
            for query in np.tile(QUERIES, (40, 1)):
                assert ids(gallery, query, top_k=1)
                searching.set()

        def verify() -> None:
            searching.wait()
            for _ in range(5):
                assert not gallery.verify().repaired

        threads = [threading.Thread(target=work, daemon=True) for work in (search, search, verify)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert not any(thread.is_alive() for thread in threads)  # nobody waits for anybody for ever


def test_compacting_reclaims_disk_space(home: Path, tiny: Encoder) -> None:
    with Gallery(home, "g", tiny) as gallery:
        before = gallery.statistics().bytes
        gallery.delete([f"{n:04}" for n in range(2500)])
        gallery.compact()
        assert gallery.statistics().bytes < before / 3
        assert gallery.statistics().indexed == COUNT - 2500
        kept = {id_: row for id_, row in EVERYTHING.items() if int(id_) >= 2500}
        assert ids(gallery, QUERIES[0], exact=True) == nearest(QUERIES[0], kept)


FILLER = """
import resource, sys, numpy as np
from tests.vectors import StubEncoder
from zeroshot.errors import GalleryError
from zeroshot.gallery import Gallery, Item
gallery = Gallery(sys.argv[1], "g", StubEncoder(640), create=True)
if len(sys.argv) > 2:
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), int(sys.argv[2])))
rows = np.random.default_rng(0).normal(size=(10, 640)).astype(np.float32)
rows /= np.linalg.norm(rows, axis=1, keepdims=True)
for n in range(10000):
    try:
        gallery.add([(Item(f"{n}-{row}"), rows[row]) for row in range(10)])
    except GalleryError as error:
        print("failed", n, error, flush=True)
        try:
            gallery.build_index()
        except GalleryError as error:
            print("index", error, flush=True)
        break
    print("done", n, flush=True)
"""


def check_full_disk(folder: Path, *limit: str) -> None:
    """Fill until it fails: what was acknowledged is there, the failed addition is not, and it says what to do."""
    writer = subprocess.run(
        [sys.executable, "-c", FILLER, folder, *limit],
        capture_output=True,
        text=True,
        check=True,
        env=environment(folder),
    )
    *done, failed = [line for line in writer.stdout.splitlines() if not line.startswith("index")]
    assert failed.startswith("failed")
    assert "Check the disk's space" in failed
    with Gallery(folder, "g", StubEncoder(640)) as again:
        stored = {item.id for item in again.list_items(limit=10**6)}
        assert stored == {f"{line.split()[1]}-{row}" for line in done for row in range(10)}
        assert not again.verify().repaired
        assert not list(again.folder.glob("index-*")) or again.statistics().indexed == len(stored)


def test_a_file_that_may_not_grow_loses_nothing(tmp_path: Path) -> None:
    check_full_disk(tmp_path, str(2_000_000))
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY  # only the writer was limited


def test_a_full_disk_loses_nothing(tmp_path: Path) -> None:
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", tmp_path], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("mounting a small file system takes root")
    try:
        check_full_disk(tmp_path)
    finally:
        subprocess.run(["umount", "-l", tmp_path], check=True)


class LargeAgainstBruteForce(RuleBasedStateMachine):
    """Random writes, restarts and rebuilds of a gallery with a snapshot, compared with a dict."""

    source: Path
    target: Path
    encoder: Encoder

    def __init__(self) -> None:
        super().__init__()
        shutil.rmtree(self.target, ignore_errors=True)
        shutil.copytree(self.source, self.target)
        self.truth = dict(EVERYTHING)
        self.gallery = Gallery(self.target, "g", self.encoder)

    @rule(seed=st.integers(0, 10**6), old=st.integers(0, COUNT - 1))
    def put(self, seed: int, old: int) -> None:
        rows = {f"{old:04}": unit(seed), f"new{seed}": unit(seed + 1)}
        self.gallery.add([(Item(id_, metadata={"n": seed}), row) for id_, row in rows.items()], replace=True)
        self.truth |= rows

    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        id_ = data.draw(st.sampled_from(sorted(self.truth)))
        self.gallery.delete([id_])
        del self.truth[id_]

    @rule()
    def restart(self) -> None:
        self.gallery.close()
        self.gallery = Gallery(self.target, "g", self.encoder)

    @precondition(lambda self: len(self.truth) != COUNT)
    @rule()
    def rebuild(self) -> None:
        self.gallery.build_index()
        assert self.gallery.statistics().indexed == len(self.truth)

    @rule(seed=st.integers(0, 10**6), top_k=st.integers(1, 20))
    def search(self, seed: int, top_k: int) -> None:
        query = clustered(1, DIM, seed=seed)[0]
        assert ids(self.gallery, query, top_k=top_k, exact=True) == nearest(query, self.truth, top_k)

    def teardown(self) -> None:
        assert not self.gallery.verify().repaired
        self.gallery.close()


def test_a_large_gallery_behaves_as_a_dict_of_vectors(built: Path, tmp_path: Path, tiny: Encoder) -> None:
    LargeAgainstBruteForce.source, LargeAgainstBruteForce.target = built, tmp_path / "machine"
    LargeAgainstBruteForce.encoder = tiny
    run_state_machine_as_test(
        LargeAgainstBruteForce, settings=settings(max_examples=8, stateful_step_count=12, deadline=None)
    )


@pytest.fixture
def pairs(tmp_path: Path, tiny: Encoder) -> Iterator[Gallery]:
    with Gallery(tmp_path, "p", tiny, create=True) as gallery:
        near = unit(1) + 0.01 * unit(50)
        further = unit(1) + 0.02 * unit(50)
        rows = {"a": unit(1), "b": near, "c": further, "x": unit(2), "x again": unit(2), "alone": unit(3)}
        gallery.add((Item(id_), row / np.linalg.norm(row)) for id_, row in rows.items())
        yield gallery


def test_near_duplicates_are_grouped(pairs: Gallery, built: Path, tiny: Encoder) -> None:
    assert pairs.duplicates(min_similarity=0.999) == [["a", "b", "c"], ["x", "x again"]]
    assert pairs.duplicates(min_similarity=1) == [["x", "x again"]]
    with pytest.raises(OptionError, match="min_similarity=0"):
        pairs.duplicates(min_similarity=0)
    with Gallery(built, "g", tiny) as gallery:
        similarities = VECTORS @ VECTORS.T - np.eye(COUNT)
        alike = {f"{n:04}" for n in np.flatnonzero((similarities >= 0.8).any(axis=1))}
        assert {id_ for group in gallery.duplicates(min_similarity=0.8) for id_ in group} == alike


def test_an_index_of_nothing_is_no_error(tmp_path: Path, tiny: Encoder) -> None:
    with Gallery(tmp_path, "empty", tiny, create=True) as gallery:
        gallery.build_index()
        gallery.compact()
        assert gallery.search("anything") == []
        assert gallery.duplicates() == []
        assert gallery.verify().recall == 1
    with pytest.raises(GalleryError, match="cannot be used"):
        gallery.search("anything")

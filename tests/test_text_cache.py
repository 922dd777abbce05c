"""The text cache: never wrong, never in the way, whatever happens to its file."""

from __future__ import annotations

import logging
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import Run, environment
from tests.images import PHOTOS
from tests.test_classifier import Counting
from zeroshot import Encoder, ZeroShotClassifier
from zeroshot.encoders import TextCache

LABELS = [f"thing number {number}" for number in range(1000)]
CAT = PHOTOS / "cat.jpg"


def vector(seed: int, dim: int = 16) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=dim).astype(np.float32)


def test_what_was_put_is_found_bit_for_bit_by_another_process(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "cache.sqlite3"
    TextCache(path).put_many("model", {"a": vector(1), "ü🐈": vector(2), "": vector(3)})
    program = (
        "import sys; from zeroshot.encoders import TextCache\n"
        "found = TextCache(sys.argv[1]).get_many('model', ['a', 'ü🐈', '', 'b'])\n"
        "print(sorted(found), found['a'].tobytes().hex())"
    )
    finished = subprocess.run([sys.executable, "-c", program, path], capture_output=True, text=True, check=True)
    assert finished.stdout.strip() == f"['', 'a', 'ü🐈'] {vector(1).tobytes().hex()}"
    assert TextCache(path).get_many("other model", ["a"]) == {}


def test_a_label_set_is_embedded_once_and_a_new_label_alone(tmp_path: Path, tiny: Encoder) -> None:
    first, second = Counting(tiny), Counting(tiny)
    before = ZeroShotClassifier(first, cache=TextCache(tmp_path / "c")).class_matrix(LABELS)
    assert len(first.texts) == 1000
    restarted = ZeroShotClassifier(second, cache=TextCache(tmp_path / "c"))
    np.testing.assert_array_equal(restarted.class_matrix(LABELS), before)
    assert second.texts == []
    extended = restarted.class_matrix(["one more", *LABELS])
    assert second.texts == ["one more"]
    np.testing.assert_array_equal(extended[1:], before)


def test_templates_are_part_of_what_is_kept(tmp_path: Path, tiny: Encoder) -> None:
    encoder = Counting(tiny)
    for templates in (["{}"], ["a {}", "the {}"], ["the {}", "a {}"], ["a {}", "the {}"]):
        ZeroShotClassifier(encoder, cache=TextCache(tmp_path / "c")).class_matrix(["x", "y"], templates=templates)
    assert len(encoder.texts) == 2 + 4 + 4


def test_the_command_line_uses_it(run: Run, tmp_path: Path) -> None:
    first = run("classify", CAT, "--labels", "cat,dog", "--json")
    assert (tmp_path / "home" / "text-embeddings.sqlite3").exists()
    assert run("classify", CAT, "--labels", "cat,dog", "--json").stdout == first.stdout
    without = run("classify", CAT, "--labels", "cat,dog", "--json", ZEROSHOT_TEXT_CACHE_BYTES="0", ZEROSHOT_HOME="none")
    assert without.stdout == first.stdout
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    "damage", [lambda _: b"not a database" * 500, lambda c: c[:3000], lambda c: c[:100] + b"\xff" * 4000 + c[4100:]]
)
def test_a_damaged_file_is_rebuilt_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: object
) -> None:
    path = tmp_path / "c"
    cache = TextCache(path)
    cache.put_many("m", {str(i): vector(i) for i in range(200)})
    cache.close()
    path.write_bytes(damage(path.read_bytes()))
    with caplog.at_level(logging.WARNING):
        again = TextCache(path)
        found = again.get_many("m", [str(i) for i in range(200)])
        again.put_many("m", {"new": vector(5)})
        again.put_many("m", {"newer": vector(6)})
    for text, row in found.items():
        np.testing.assert_array_equal(row, vector(int(text)))
    assert "rebuilt" in caplog.text
    np.testing.assert_array_equal(TextCache(path).get_many("m", ["newer"])["newer"], vector(6))


def test_a_flipped_bit_in_a_vector_is_a_miss(tmp_path: Path) -> None:
    cache = TextCache(tmp_path / "c")
    cache.put_many("m", {"a": vector(1), "b": vector(2)})
    cache.close()
    with sqlite3.connect(tmp_path / "c") as database:
        (stored,) = database.execute("SELECT vector FROM embeddings LIMIT 1").fetchone()
        database.execute(
            "UPDATE embeddings SET vector = ? WHERE vector = ?", (bytes([stored[0] ^ 1]) + stored[1:], stored)
        )
    assert len(TextCache(tmp_path / "c").get_many("m", ["a", "b"])) == 1


def test_it_stays_within_its_size_and_keeps_what_was_used_last(tmp_path: Path) -> None:
    row = 16 * 4 + 4
    cache = TextCache(tmp_path / "c", max_bytes=100 * row)
    for number in range(300):
        cache.put_many("m", {str(number): vector(number)})
    found = TextCache(tmp_path / "c").get_many("m", [str(number) for number in range(300)])
    assert 80 <= len(found) <= 100
    assert "299" in found
    assert "0" not in found


def test_memory_is_bounded(tmp_path: Path) -> None:
    cache = TextCache(tmp_path / "c", max_memory_bytes=10 * 64)
    cache.put_many("m", {str(number): vector(number) for number in range(100)})
    assert len(cache._memory) == 10
    assert len(cache.get_many("m", [str(number) for number in range(100)])) == 100


def test_a_place_that_cannot_be_written_costs_a_warning_only(
    tmp_path: Path, tiny: Encoder, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("in the way")
    cache = TextCache(tmp_path / "file" / "cache")
    with caplog.at_level(logging.WARNING):
        assert ZeroShotClassifier(tiny, cache=cache).classify(CAT, ["cat", "dog"]).label == "cat"
    assert "text cache" in caplog.text


def test_processes_may_write_at_once(tmp_path: Path) -> None:
    program = (
        "import sys, numpy as np; from zeroshot.encoders import TextCache\n"
        "cache = TextCache(sys.argv[1])\n"
        "for i in range(60): cache.put_many('m', {f'{sys.argv[2]}-{i}': np.full(16, i, np.float32), 'shared': "
        "np.ones(16, np.float32)}); cache.get_many('m', ['shared', 'none'])"
    )
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", program, tmp_path / "c", str(n)], env=environment(tmp_path), stderr=subprocess.PIPE
        )
        for n in range(4)
    ]
    for writer in writers:
        assert writer.communicate(timeout=120)[1] == b""
        assert writer.returncode == 0
    found = TextCache(tmp_path / "c").get_many("m", [f"{n}-{i}" for n in range(4) for i in range(60)])
    assert len(found) == 240

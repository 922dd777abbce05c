"""SQLite files: what is committed, and whose errors are raised, with which remedy."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from zeroshot.sqlite import SqliteFile

MIGRATIONS = ("CREATE TABLE words (word TEXT NOT NULL); CREATE INDEX by_word ON words (word)",)


class Unusable(Exception):
    pass


class Damaged(Exception):
    pass


def opened(path: Path, migrations: tuple[str, ...] = MIGRATIONS, **options: object) -> SqliteFile:
    return SqliteFile(path, migrations, unusable=Unusable, damaged=Damaged, **options)


def put(file: SqliteFile, word: str) -> None:
    with file.writing() as connection:
        connection.execute("INSERT INTO words VALUES (?)", (word,))


def words(file: SqliteFile) -> list[str]:
    with file.reading() as connection:
        return [word for (word,) in connection.execute("SELECT word FROM words ORDER BY word")]


def test_reading_makes_no_file_and_writing_makes_it_with_its_folder(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file"
    file = opened(path)
    assert words(file) == []
    assert not path.parent.exists()
    put(file, "a")
    assert words(opened(path)) == ["a"]
    file.delete()
    assert list(path.parent.iterdir()) == []
    put(file, "b")
    assert words(file) == ["b"]


def test_a_block_that_raises_changes_nothing(tmp_path: Path) -> None:
    file = opened(tmp_path / "file")

    def fail() -> None:
        with file.writing() as connection:
            connection.execute("INSERT INTO words VALUES ('a')")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    with pytest.raises(KeyError), file.reading():
        raise KeyError
    put(file, "b")
    assert words(file) == ["b"]


def test_all_that_a_block_reads_is_of_one_moment(tmp_path: Path) -> None:
    reader, writer = opened(tmp_path / "file"), opened(tmp_path / "file")
    put(writer, "a")
    with reader.reading():
        assert words(reader) == ["a"]
        put(writer, "b")
        assert words(reader) == ["a"]
    assert words(reader) == ["a", "b"]


def test_a_file_is_migrated_from_where_it_was_and_a_newer_one_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "file"
    put(opened(path), "a")
    newer = opened(path, (*MIGRATIONS, "ALTER TABLE words ADD COLUMN length INTEGER; UPDATE words SET length = 1"))
    with newer.reading() as connection:
        assert connection.execute("SELECT * FROM words").fetchall() == [("a", 1)]
    with pytest.raises(Damaged, match=r"format 2, from a newer version.*Upgrade"):
        words(opened(path))


def test_every_error_is_the_callers_with_a_remedy(tmp_path: Path) -> None:
    path = tmp_path / "file"
    file = opened(path)
    put(file, "a")
    with file.writing(), pytest.raises(Unusable, match=r"locked.*Another process is writing"):
        put(opened(path, timeout_s=0), "b")
    with pytest.raises(Unusable, match=r"readonly.*writable"):
        put(opened(path, read_only=True), "b")
    with pytest.raises(Unusable, match=r"full.*Check the disk's space"):
        put(opened(tmp_path / "small", pragmas=("max_page_count=8",)), "a" * 10**6)
    file.close()
    with pytest.raises(Unusable, match="was closed"):
        words(file)
    (tmp_path / "no folder").write_text("")
    with pytest.raises(Unusable, match=r"File exists.*Check the disk"):
        put(opened(tmp_path / "no folder" / "file"), "a")


def test_damage_is_told_from_what_passes(tmp_path: Path) -> None:
    path = tmp_path / "file"
    file = opened(path)
    put(file, "a" * 100_000)
    file.check()
    file.close()
    with sqlite3.connect(path) as connection:
        connection.execute("DROP TABLE words")
    with pytest.raises(Damaged, match="no such table"):
        words(opened(path))
    path.write_bytes(b"not a database" * 1000)
    with pytest.raises(Damaged, match="is damaged"):
        words(opened(path))


def test_vacuum_reclaims_the_space_of_deleted_rows(tmp_path: Path) -> None:
    path = tmp_path / "file"
    file = opened(path)
    put(file, "a" * 10**6)
    with file.writing() as connection:
        connection.execute("DELETE FROM words")
    file.vacuum()
    assert path.stat().st_size < 10**5

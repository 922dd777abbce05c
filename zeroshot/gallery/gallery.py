"""A named collection of embedded images: search it by image, text or example, and label it from stored vectors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from itertools import islice, tee
from pathlib import Path
from typing import Self

import numpy as np

from zeroshot.encoders import Encoder, FloatArray, TextCache
from zeroshot.encoders.streaming import encode_stream
from zeroshot.errors import GalleryBusy, GalleryError, ImageError, OptionError
from zeroshot.gallery.analysis import compare_index, count_labels, describe_gallery, find_duplicates
from zeroshot.gallery.catalog import gallery_folder
from zeroshot.gallery.filters import Filter
from zeroshot.gallery.index import GalleryIndex
from zeroshot.gallery.queries import as_queries, combine
from zeroshot.gallery.store import GalleryStore
from zeroshot.gallery.types import Hit, Item, LabelCount, Query, Statistics, Verification
from zeroshot.images import ImageLimits, ImageSource
from zeroshot.labels import Labels, Mode, as_label_set, class_matrix, load_label_set
from zeroshot.labels.class_matrix import choose_templates
from zeroshot.labels.distinct import emit_warnings, text_warnings
from zeroshot.prompts import Templates, load_templates
from zeroshot.scoring import ScoringOptions
from zeroshot.scoring.build import Scorers

EXACT_UP_TO = 50_000
RECALL = 0.99
MAX_TOP_K = 10_000
_EXAMPLES = 5
_RECALL_SETS = ("cifar100", "food101")  # recall is measured for their names as sentences


class Gallery:
    """A gallery, opened with the encoder whose vectors it holds.

    Safe to call from several threads at once, and to have open in several processes: each sees what the others have
    written at its next call. The index is made from the database, and can be rebuilt.

    Parameters
    ----------
    home : str or Path
        ZEROSHOT_HOME.
    name : str
        Letters, digits, dots, dashes and underscores.
    encoder : Encoder
        Must be the one the gallery was made with.
    create : bool
        Whether to make the gallery when there is none of that name.
    limits : ImageLimits or None
        Limits on images given to ``search``.
    cache : TextCache or None
        Keeps embedded labels between processes.
    exact_up_to : int
        With more items than this beyond the last snapshot, an approximate index is built, in the background.
    recall : float
        Share of the true ten nearest that searches in the approximate index shall find.

    Raises
    ------
    GalleryNotFound
        If there is none of that name and `create` is False.
    GalleryMismatch
        If it holds vectors of another encoder.
    GalleryCorrupt
        If its database is damaged.
    GalleryError
        If the name cannot be a folder's.
    """

    def __init__(
        self,
        home: str | Path,
        name: str,
        encoder: Encoder,
        *,
        create: bool = False,
        limits: ImageLimits | None = None,
        cache: TextCache | None = None,
        exact_up_to: int = EXACT_UP_TO,
        recall: float = RECALL,
    ) -> None:
        self.name = name
        self.encoder = encoder
        self.limits, self._cache = limits, cache
        self.folder = gallery_folder(Path(home), name, create=create)
        self._store = GalleryStore(self.folder, fingerprint=encoder.fingerprint, spec=encoder.spec, dim=encoder.dim)
        try:
            self._index = GalleryIndex(
                self._store, self.folder, exact_up_to=exact_up_to, recall=recall, sentences=self._embed_sentences
            )
        except BaseException:
            self._store.close()
            raise

    def add(self, items: Iterable[tuple[Item, FloatArray]], *, replace: bool = False) -> int:
        """Store items with ready vectors, all or none; when this returns they are safe on disk.

        Parameters
        ----------
        items : iterable of (Item, ndarray of float32, shape (dim,))
            Items and their vectors, unit length.
        replace : bool
            Whether an item replaces one of the same id; of one id given twice the later counts.

        Returns
        -------
        int
            How many were stored.

        Raises
        ------
        ItemExists
            If an id is known and `replace` is False.
        GalleryBusy
            If another process is writing.
        GalleryError
            If an item or a vector cannot be stored, or the disk is full.
        """
        rows = list(items)
        if replace:
            rows = list({item.id: (item, vector) for item, vector in rows}.values())
        if not rows:
            return 0
        stored = self._store.add(rows, replace=replace)
        self._index.note_added(stored)
        return stored

    def add_each(self, rows: Sequence[tuple[Item, FloatArray]], *, replace: bool = False) -> list[GalleryError | None]:
        """Store items one by one if they cannot be stored together.

        Parameters
        ----------
        rows : sequence of (Item, ndarray of float32, shape (dim,))
            Items and their vectors, unit length.
        replace : bool
            Whether an item replaces one of the same id.

        Returns
        -------
        list of GalleryError or None
            By row: None if it is safe on disk, or why it was not stored.

        Raises
        ------
        GalleryBusy
            If another process is writing.
        """
        try:
            self.add(rows, replace=replace)
            return [None] * len(rows)
        except GalleryBusy:
            raise
        except GalleryError as error:
            if len(rows) == 1:
                return [error]
        return [error for row in rows for error in self.add_each([row], replace=replace)]

    def add_images(
        self, items: Iterable[tuple[Item, ImageSource]], *, replace: bool = False, batch_size: int = 16
    ) -> Iterator[tuple[Item, ImageError | GalleryError | None]]:
        """Embed images and store them, a batch at a time; an image that cannot be used does not affect the others.

        Parameters
        ----------
        items : iterable of (Item, ImageSource)
            Read lazily.
        replace : bool
            Whether an item replaces one of the same id.
        batch_size : int
            Images encoded and written at once.

        Yields
        ------
        (Item, ImageError or GalleryError or None)
            One per item, in order: None when it is safe on disk, or why it was not stored.

        Raises
        ------
        GalleryBusy
            If another process is writing.
        """
        listed, read = tee(items)
        encoded = encode_stream(self.encoder, (source for _, source in read), limits=self.limits, batch_size=batch_size)
        outcomes = zip((item for item, _ in listed), (outcome for _, outcome in encoded), strict=False)
        while batch := list(islice(outcomes, batch_size)):
            good = [(item, outcome) for item, outcome in batch if not isinstance(outcome, ImageError)]
            errors = iter(self.add_each(good, replace=replace))
            for item, outcome in batch:
                yield item, outcome if isinstance(outcome, ImageError) else next(errors)

    def delete(self, ids: Sequence[str]) -> int:
        """Remove items, all or none.

        Parameters
        ----------
        ids : sequence of str
            Of known items.

        Returns
        -------
        int
            How many were removed.

        Raises
        ------
        ItemNotFound
            If an id is not known.
        GalleryBusy
            If another process is writing.
        """
        return self._store.delete(ids)

    def get(self, id: str) -> tuple[Item, FloatArray]:  # noqa: A002
        """Read one item and its vector.

        Parameters
        ----------
        id : str
            Of a known item.

        Returns
        -------
        (Item, ndarray of float32, shape (dim,))
            As stored.

        Raises
        ------
        ItemNotFound
            If the id is not known.
        """
        return self._store.get(id)

    def list_items(self, where: Filter | None = None, *, limit: int = 100, after: str | None = None) -> list[Item]:
        """List items by id, a page at a time.

        Parameters
        ----------
        where : Filter or None
            Only those whose metadata match; ``zeroshot.gallery.filters`` has the form.
        limit : int
            Most items returned.
        after : str or None
            Only ids after this one: the last of the previous page.

        Returns
        -------
        list of Item
            In the order of their ids.
        """
        keep = None if where is None else self._index.matching(where)
        return self._store.page(limit=limit, after=after, keep=keep)

    def everything(self) -> Iterator[tuple[list[Item], FloatArray]]:
        """Read all items and their vectors, (n, dim), some thousand at a time, in the order of addition."""
        for numbers, vectors in self._store.vectors():
            items = self._store.items(numbers)
            kept = [row for row, number in enumerate(numbers) if number in items]
            yield [items[numbers[row]] for row in kept], vectors[kept]

    def known_files(self) -> Mapping[str, tuple[int | None, int | None]]:
        """Give bytes and time of change, in nanoseconds, of every file that was indexed, by uri."""
        return self._store.files()

    def search(
        self,
        query: str | Query | Sequence[Query],
        *,
        top_k: int = 10,
        min_similarity: float | None = None,
        where: Filter | None = None,
        exact: bool = False,
        on_warning: Callable[[str], object] | None = None,
    ) -> list[Hit]:
        """Find the items most similar to a sentence, an image, a stored item, a vector, or a weighted sum of them.

        Parameters
        ----------
        query : str, Query or sequence of Query
            A sentence, or one or several queries; several are added by weight, minus ones included.
        top_k : int
            Most items returned.
        min_similarity : float or None
            Leave out less similar items.
        where : Filter or None
            Only items whose metadata match; applied before ranking, so `top_k` of those are found if there are.
        exact : bool
            Whether to compare with every vector, however many there are.
        on_warning : callable or None
            Called with each warning about the sentences; None makes them Python warnings.

        Returns
        -------
        list of Hit
            Best first; a stored item that is the query itself is left out.

        Raises
        ------
        OptionError
            If `top_k` is out of range, a query is empty, the weighted sum cancels out, or the filter is malformed.
        ItemNotFound
            If a query names an id that is not there.
        ImageError
            If a query's image cannot be used.
        """
        if not 1 <= top_k <= MAX_TOP_K:
            raise OptionError(f"top_k={top_k} is out of range.", f"Use 1 to {MAX_TOP_K:,}.", field="top_k")
        queries = as_queries(query)
        if texts := [part.text for part in queries if part.text is not None]:
            emit_warnings(text_warnings(self.encoder, texts), on_warning)
        vector = combine(queries, self.encoder, lambda id_: self._store.get(id_)[1], self.limits)
        own = {part.id for part in queries if part.id is not None}
        candidates = self._index.search(vector, top_k + len(own), where, exact=exact)
        items, vectors = self._store.with_vectors(candidates.tolist())
        # Rounded from float64, so that a similarity does not depend on how many others it was computed with.
        similarities = (vectors @ vector.astype(np.float64)).astype(np.float32).tolist()
        best = sorted(range(len(items)), key=similarities.__getitem__, reverse=True)  # of equals, the one added first
        hits = [Hit(items[row], min(1.0, max(-1.0, similarities[row]))) for row in best if items[row].id not in own]
        return [hit for hit in hits if min_similarity is None or hit.similarity >= min_similarity][:top_k]

    def classify(
        self,
        labels: Labels,
        *,
        templates: Templates | None = None,
        mode: Mode | str | None = None,
        threshold: float | None = None,
        temperature: float | None = None,
        unknown: bool = False,
        examples: int = _EXAMPLES,
        on_warning: Callable[[str], object] | None = None,
    ) -> list[LabelCount]:
        """Rank labels for every stored image, from stored vectors: no image is read or encoded.

        Parameters
        ----------
        labels : sequence of str or Label, or LabelSet
            The classes.
        templates : str, Path, sequence of str, TemplateSet, or None
            None takes the label set's or the encoder's.
        mode : Mode, str or None
            See ``ZeroShotClassifier.classify``, as for the next two.
        threshold : float or None
            Score, in [0, 1], that a label needs to be the answer.
        temperature : float or None
            Divides the logits.
        unknown : bool
            Whether an image that shows none of the labels counts for none.
        examples : int
            How many items with the highest scores to name per label.
        on_warning : callable or None
            Called with each warning about the labels; None makes them Python warnings.

        Returns
        -------
        list of LabelCount
            In the order of `labels`. An image may count for several in the mode multilabel, and for none in any.

        Raises
        ------
        LabelError
            If the labels cannot be used.
        """
        label_set = as_label_set(labels)
        chosen = choose_templates(self.encoder, label_set) if templates is None else load_templates(templates)
        scorers = Scorers(self.encoder, self._cache)  # not kept: a service has many galleries open
        scorer = scorers.get(label_set, chosen, ScoringOptions(mode, threshold, temperature, unknown))
        emit_warnings(scorer.warnings, on_warning)
        return count_labels(self._index, self._store, scorer, examples)

    def duplicates(self, *, min_similarity: float = 0.95) -> list[list[str]]:
        """Group near-duplicates.

        Parameters
        ----------
        min_similarity : float
            Two images at least this similar are in one group, and so are those that a chain of such pairs connects.

        Returns
        -------
        list of list of str
            Ids of each group of two or more, largest groups first.

        Raises
        ------
        OptionError
            If `min_similarity` is not above 0 and at most 1.
        """
        if not 0 < min_similarity <= 1:
            raise OptionError(
                f"min_similarity={min_similarity} is out of range.", "Use more than 0, up to 1.", field="min_similarity"
            )
        return find_duplicates(self._index, self._store, min_similarity - 1e-6)

    def statistics(self) -> Statistics:
        """Describe the gallery in numbers.

        Returns
        -------
        Statistics
            As of now.
        """
        return describe_gallery(self._index, self._store, self.folder)

    def verify(self) -> Verification:
        """Compare every id and vector of the index with the database; rebuild the index if they differ.

        Returns
        -------
        Verification
            What was found.

        Raises
        ------
        GalleryCorrupt
            If the database itself is damaged.
        """
        self._store.check()
        found = compare_index(self._index, self._store)
        if found.repaired:
            self._index.rebuild()
        return found

    def build_index(self, *, quantization: str | None = None) -> None:
        """Build the approximate index now, whatever the number of items, and use it.

        Parameters
        ----------
        quantization : str or None
            ``float16`` or ``int8`` (half the memory, more candidates compared); None keeps what the last one had.

        Raises
        ------
        OptionError
            If there is no such quantization.
        GalleryBusy
            If another process is writing.
        GalleryError
            If the disk is full.
        """
        self._index.build(quantization=quantization)

    @property
    def needs_index(self) -> bool:
        """Whether more items are without an approximate index than are compared one by one."""
        return self._index.is_build_due

    def build_in_background(self) -> None:
        """Start building the approximate index if it is needed and not being built."""
        self._index.build_in_background()

    def wait_for_index(self) -> None:
        """Wait for the index that is being built, and build it if it is needed."""
        self._index.wait()

    def compact(self, *, quantization: str | None = None) -> None:
        """Reclaim the disk space of deleted items, and rebuild the index of a large gallery.

        Parameters
        ----------
        quantization : str or None
            As for ``build_index``.

        Raises
        ------
        GalleryBusy
            If another process is writing.
        """
        with self.writing():
            if quantization is not None or self._index.snapshot is not None or len(self) > self._index.exact_up_to:
                self._index.build(quantization=quantization)
            self._store.reclaim_space()

    def writing(self) -> AbstractContextManager[None]:
        """Keep other processes from writing to this gallery while the block runs, or raise ``GalleryBusy``."""
        return self._store.exclusive()

    def close(self) -> None:
        """Stop building the index, and close the database."""
        self._index.close()
        self._store.close()

    def __len__(self) -> int:
        """How many items there are."""
        return self._store.count()

    def __enter__(self) -> Self:
        """Close it when the block ends."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    def _embed_sentences(self) -> FloatArray:
        labels = [label for name in _RECALL_SETS for label in load_label_set(name).labels]
        return class_matrix(self.encoder, labels, load_templates(self.encoder.template_set, files=False), self._cache)

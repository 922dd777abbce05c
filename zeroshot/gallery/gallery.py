"""A named collection of embedded pictures: search it by picture, text or example, and re-label it with one sentence."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice, tee
from pathlib import Path

import numpy as np

from zeroshot.encoders import Encoder, FloatArray, TextCache
from zeroshot.encoders.streaming import encode_stream
from zeroshot.errors import GalleryError, ImageError, OptionError
from zeroshot.gallery.analysis import count_labels, find_duplicates
from zeroshot.gallery.catalog import gallery_folder
from zeroshot.gallery.collection import Collection
from zeroshot.gallery.filters import Filter
from zeroshot.gallery.queries import combine
from zeroshot.gallery.types import Hit, Item, LabelCount, Query
from zeroshot.gallery.upkeep import EXACT_UP_TO, RECALL
from zeroshot.images import ImageLimits, ImageSource
from zeroshot.labels import (
    Labels,
    Mode,
    as_label_set,
    choose_templates,
    class_matrix,
    emit_warnings,
    load_label_set,
    text_warnings,
)
from zeroshot.prompts import Templates, load_templates
from zeroshot.scoring import Scorers, ScoringOptions

MAX_TOP_K = 10_000
_EXAMPLES = 5
_MEASURING_SETS = ("cifar100", "food101")  # their names are the sentences by which recall is measured


class Gallery(Collection):
    """A gallery, opened with the encoder whose vectors it holds.

    Safe to call from several threads at once, and to have open in several processes: each sees what the others have
    written at its next call. The database is the truth; the index is made from it.

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
        Limits on pictures given to ``search``.
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
        super().__init__(
            gallery_folder(Path(home), name, create=create), fingerprint=encoder.fingerprint, spec=encoder.spec,
            dim=encoder.dim, exact_up_to=exact_up_to, recall=recall, sentences=self._embed_sentences,
        )  # fmt: skip

    def add_images(
        self, items: Iterable[tuple[Item, ImageSource]], *, replace: bool = False, batch_size: int = 16
    ) -> Iterator[tuple[Item, ImageError | GalleryError | None]]:
        """Embed pictures and store them, a batch at a time; a picture that cannot be used harms no other.

        Parameters
        ----------
        items : iterable of (Item, ImageSource)
            Read lazily.
        replace : bool
            Whether an item of a known id takes the other's place.
        batch_size : int
            Pictures encoded and written at once.

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
        """Find the items most similar to a sentence, a picture, a stored item, a vector, or a weighted sum of them.

        Parameters
        ----------
        query : str, Query or sequence of Query
            A sentence, or one or several queries; several are added by weight, minus ones included.
        top_k : int
            Most items given.
        min_similarity : float or None
            Leave out what is less similar.
        where : Filter or None
            Only items whose metadata match; applied before ranking, so `top_k` of those are found if there are.
        exact : bool
            Whether to compare with every vector, however many there are.
        on_warning : callable or None
            Called with what is to be known of the sentences; None makes it a Python warning.

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
            If a query's picture cannot be used.
        """
        if not 1 <= top_k <= MAX_TOP_K:
            raise OptionError(f"top_k={top_k} is out of range.", f"Use 1 to {MAX_TOP_K:,}.", field="top_k")
        queries = (
            [Query(text=query)] if isinstance(query, str) else [query] if isinstance(query, Query) else list(query)
        )
        emit_warnings(text_warnings(self.encoder, [part.text for part in queries if part.text is not None]), on_warning)
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
        examples: int = _EXAMPLES,
        on_warning: Callable[[str], object] | None = None,
    ) -> list[LabelCount]:
        """Rank labels for every stored picture, from stored vectors: no picture is read or encoded.

        Parameters
        ----------
        labels : sequence of str or Label, or LabelSet
            The classes.
        templates : str, Path, sequence of str, TemplateSet, or None
            None takes what suits the encoder.
        mode : Mode, str or None
            See ``ZeroShotClassifier.classify``, as for the next two.
        threshold : float or None
            Score, in [0, 1], that a label needs to be the answer.
        temperature : float or None
            Divides the logits.
        examples : int
            How many of the surest items to name per label.
        on_warning : callable or None
            Called with what is to be known of the labels; None makes it a Python warning.

        Returns
        -------
        list of LabelCount
            In the order of `labels`. In the mode multilabel an image may count for several, and in any for none.

        Raises
        ------
        LabelError
            If the labels cannot be used.
        """
        label_set = as_label_set(labels)
        chosen = choose_templates(self.encoder, label_set) if templates is None else load_templates(templates)
        scorers = Scorers(self.encoder, self._cache)  # not kept: a service has many galleries open
        scorer = scorers.get(label_set, chosen, ScoringOptions(mode, threshold, temperature))
        emit_warnings(scorer.warnings, on_warning)
        return count_labels(self._index, self._store, scorer, examples)

    def duplicates(self, *, min_similarity: float = 0.95) -> list[list[str]]:
        """Group pictures that are as good as the same.

        Parameters
        ----------
        min_similarity : float
            Two pictures at least this similar are in one group, and so are those that a chain of such pairs connects.

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

    def _embed_sentences(self) -> FloatArray:
        labels = [label for name in _MEASURING_SETS for label in load_label_set(name).labels]
        return class_matrix(self.encoder, labels, load_templates(self.encoder.template_set, files=False), self._cache)

"""Zero-shot classification: rank classes, given as text, by their similarity to an image.

matrix = class_matrix(labels)                           # (k, dim): prompts, the text tower, their means
vectors = encode(images)                                # (n, dim): the image tower
similarities = cosine_similarities(vectors, matrix)     # (n, k)
scores = scorer.from_similarities(similarities, vectors)    # (n, k): a softmax, or what another mode has
answers = scorer.decide(scores, vectors)                # (n, k) bool: the best, if it reaches its threshold
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar, overload

import numpy as np
import numpy.typing as npt

from zeroshot.encoders import Encoder, FloatArray, TextCache, load_encoder
from zeroshot.encoders.streaming import encode_one, encode_stream
from zeroshot.errors import ImageError, LabelError, OptionError
from zeroshot.images import ImageLimits, ImageSource
from zeroshot.labels import Labels, LabelSet, Mode, as_label_set
from zeroshot.labels.class_matrix import choose_templates
from zeroshot.labels.distinct import emit_warnings
from zeroshot.prompts import Templates, TemplateSet, load_templates
from zeroshot.scoring import Classification, Scorer, ScoringOptions
from zeroshot.scoring.build import Scorers

SourceT = TypeVar("SourceT", bound=ImageSource | ImageError)


class ZeroShotClassifier:
    """Classify images under labels made up on the spot; no training.

    Safe to call from several threads at once. The class matrix of a label list is computed once and kept.

    Parameters
    ----------
    encoder : Encoder or str
        An encoder, or a model spec for ``load_encoder``.
    labels : sequence of str or Label, LabelSet, or None
        Labels used where a call gives none.
    templates : str, Path, sequence of str, TemplateSet, or None
        Templates used where a call gives none. None takes what suits the encoder: bare names where it recommends
        them, else the label set's own templates, else the set it recommends.
    limits : ImageLimits or None
        Limits on each image.
    cache : TextCache or None
        Keeps embedded labels between processes.

    Examples
    --------
    >>> classifier = ZeroShotClassifier("tiny")
    >>> classifier.classify("examples/photos/cat.jpg", ["cat", "dog", "a cup of coffee"]).label
    'cat'
    """

    def __init__(
        self,
        encoder: Encoder | str = "tiny",
        labels: Labels | None = None,
        *,
        templates: Templates | None = None,
        limits: ImageLimits | None = None,
        cache: TextCache | None = None,
    ) -> None:
        self.encoder = load_encoder(encoder) if isinstance(encoder, str) else encoder
        self.limits = limits or ImageLimits()
        self.cache = cache
        self._default_labels = None if labels is None else as_label_set(labels)
        self._default_templates = None if templates is None else load_templates(templates)
        self._scorers = Scorers(self.encoder, cache)

    @overload
    def classify(
        self,
        images: list[ImageSource] | tuple[ImageSource, ...],
        labels: Labels | None = None,
        *,
        templates: Templates | None = None,
        top_k: int | None = None,
        mode: Mode | str | None = None,
        threshold: float | None = None,
        temperature: float | None = None,
        unknown: bool = False,
    ) -> list[Classification]: ...
    @overload
    def classify(
        self,
        images: ImageSource,
        labels: Labels | None = None,
        *,
        templates: Templates | None = None,
        top_k: int | None = None,
        mode: Mode | str | None = None,
        threshold: float | None = None,
        temperature: float | None = None,
        unknown: bool = False,
    ) -> Classification: ...
    def classify(
        self,
        images: ImageSource | list[ImageSource] | tuple[ImageSource, ...],
        labels: Labels | None = None,
        *,
        templates: Templates | None = None,
        top_k: int | None = None,
        mode: Mode | str | None = None,
        threshold: float | None = None,
        temperature: float | None = None,
        unknown: bool = False,
    ) -> Classification | list[Classification]:
        """Rank the labels for one image or for each of a list.

        Parameters
        ----------
        images : ImageSource, or list or tuple of ImageSource
            One image (path, bytes, PIL image, array, ...), or several.
        labels : sequence of str or Label, LabelSet, or None
            The classes; the constructor's when None.
        templates : str, Path, sequence of str, TemplateSet, or None
            A template set's name, a file, or templates; see the constructor for None.
        top_k : int or None
            How many labels an answer holds; all when None.
        mode : Mode, str or None
            "multiclass", "binary", "multilabel" or "hierarchical"; the label set's own when None.
        threshold : float or None
            Score, in [0, 1], that a label needs to be the answer; the labels', the set's or the mode's own when None.
        temperature : float or None
            Divides the logits; what was calibrated, or 1, when None.
        unknown : bool
            Whether the answer is "unknown" where an image shows none of the labels: see docs/labels.md.

        Returns
        -------
        Classification or list of Classification
            One for one image, a list for a list.

        Raises
        ------
        ImageError
            If an image cannot be used (``classify_stream`` goes on with the rest).
        LabelError
            If the labels cannot be used.
        TemplateError
            If a template cannot be used.
        OptionError
            If `top_k` is below 1, or another option is out of range.
        """
        options = ScoringOptions(mode, threshold, temperature, unknown)
        if not isinstance(images, (list, tuple)):
            return self._ranker(labels, templates, top_k, options)(encode_one(self.encoder, images, limits=self.limits))
        results = []
        for _, outcome in self.classify_stream(
            images, labels, templates=templates, top_k=top_k, mode=mode, threshold=threshold,
            temperature=temperature, unknown=unknown,
        ):  # fmt: skip
            if isinstance(outcome, ImageError):
                raise outcome
            results.append(outcome)
        return results

    def classify_stream(
        self,
        sources: Iterable[SourceT],
        labels: Labels | None = None,
        *,
        templates: Templates | None = None,
        top_k: int | None = None,
        mode: Mode | str | None = None,
        threshold: float | None = None,
        temperature: float | None = None,
        unknown: bool = False,
        batch_size: int = 16,
    ) -> Iterator[tuple[SourceT, Classification | ImageError]]:
        """Rank the labels for any number of images, in fixed memory; decoding and encoding overlap.

        Parameters
        ----------
        sources : iterable of ImageSource or ImageError
            Read lazily. An error stands for an image already known to be missing, and comes back in its place.
        labels : sequence of str or Label, LabelSet, or None
            The classes; the constructor's when None.
        templates : str, Path, sequence of str, TemplateSet, or None
            See ``classify``.
        top_k : int or None
            How many labels an answer holds; all when None.
        mode : Mode, str or None
            See ``classify``.
        threshold : float or None
            See ``classify``.
        temperature : float or None
            See ``classify``.
        unknown : bool
            See ``classify``.
        batch_size : int
            Images encoded at once.

        Returns
        -------
        iterator of (ImageSource, Classification or ImageError)
            In order. An image that cannot be used comes with its error, and the rest go on.

        Raises
        ------
        LabelError
            If the labels cannot be used; at once, before any image is read.
        TemplateError
            If a template cannot be used.
        OptionError
            If `top_k` is below 1, or another option is out of range.
        """
        rank_one = self._ranker(labels, templates, top_k, ScoringOptions(mode, threshold, temperature, unknown))
        encoded = encode_stream(self.encoder, sources, limits=self.limits, batch_size=batch_size)
        return (
            (source, outcome if isinstance(outcome, ImageError) else rank_one(outcome)) for source, outcome in encoded
        )

    def class_matrix(self, labels: Labels | None = None, *, templates: Templates | None = None) -> FloatArray:
        """Embed labels, or give what was embedded before.

        Parameters
        ----------
        labels : sequence of str or Label, LabelSet, or None
            The classes; the constructor's when None.
        templates : str, Path, sequence of str, TemplateSet, or None
            See ``classify``.

        Returns
        -------
        ndarray of float32, shape (k, dim)
            Unit rows, in the order of the labels; read-only.

        Raises
        ------
        LabelError
            If the labels cannot be used.
        """
        label_set, chosen = self.chosen(labels, templates)
        emit_warnings(self._scorers.matrices.warnings(label_set, chosen))
        return self._scorers.matrices.get(label_set, chosen)

    def scorer(
        self,
        labels: Labels | None = None,
        *,
        templates: Templates | None = None,
        options: ScoringOptions | None = None,
        on_warning: Callable[[str], object] | None = None,
    ) -> Scorer:
        """Give what turns this classifier's vectors into answers, for those who have vectors already.

        Parameters
        ----------
        labels : sequence of str or Label, LabelSet, or None
            The classes; the constructor's when None.
        templates : str, Path, sequence of str, TemplateSet, or None
            See ``classify``.
        options : ScoringOptions or None
            Mode, threshold and temperature; the label set's own when None.
        on_warning : callable or None
            Called with each of the scorer's warnings; None makes them Python warnings.

        Returns
        -------
        Scorer
            For any number of images, from any thread.
        """
        scorer = self._scorers.get(*self.chosen(labels, templates), options or ScoringOptions())
        emit_warnings(scorer.warnings, on_warning)
        return scorer

    def find_scorer(
        self, labels: Labels | None = None, *, templates: Templates | None = None, options: ScoringOptions | None = None
    ) -> Scorer | None:
        """Give what ``scorer`` gives, if nothing has to be embedded for it; it emits no warnings.

        Parameters
        ----------
        labels : sequence of str or Label, LabelSet, or None
            The classes; the constructor's when None.
        templates : str, Path, sequence of str, TemplateSet, or None
            See ``classify``.
        options : ScoringOptions or None
            Mode, threshold and temperature; the label set's own when None.

        Returns
        -------
        Scorer or None
            None where labels are new.

        Raises
        ------
        InputError
            If the labels or an option cannot be used.
        """
        return self._scorers.find(*self.chosen(labels, templates), options or ScoringOptions())

    @property
    def classes_(self) -> npt.NDArray[np.str_]:
        """Names of the constructor's classes, shape (c,), in the order of ``predict_proba``'s columns.

        The labels; the leaves of a tree; "not x" and "x" where one label is asked about.
        """
        scorer = self.scorer()
        return np.array([scorer.names[column] for column in scorer.classes])

    def predict(self, X: Sequence[ImageSource]) -> npt.NDArray[np.object_]:  # noqa: N803 (scikit-learn's name)
        """Give the answer for each image, as scikit-learn's classifiers do: the same answer as ``classify``'s.

        Parameters
        ----------
        X : sequence of ImageSource
            n images.

        Returns
        -------
        ndarray of object, shape (n,)
            ``Classification.label`` of each: a name, None for "unknown"; in the mode multilabel
            ``Classification.labels``, a tuple of names.

        Raises
        ------
        ImageError
            If an image cannot be used.
        """
        scorer, vectors = self.scorer(), self._vectors(X)
        result = np.empty(len(vectors), dtype=np.object_)
        for row, vector in enumerate(vectors):
            answer = scorer.answer(vector, top_k=1)
            result[row] = answer.labels if answer.mode is Mode.MULTILABEL else answer.label
        return result

    def predict_proba(self, X: Sequence[ImageSource]) -> npt.NDArray[np.float64]:  # noqa: N803 (scikit-learn's name)
        """Give every class's score for each image, as scikit-learn's classifiers do.

        Parameters
        ----------
        X : sequence of ImageSource
            n images.

        Returns
        -------
        ndarray of float64, shape (n, c)
            Columns are in the order of ``classes_``; rows sum to 1 in every mode but multilabel.

        Raises
        ------
        ImageError
            If an image cannot be used.
        """
        scorer = self.scorer()
        return scorer.scores(self._vectors(X))[:, scorer.classes]

    def _vectors(self, images: Iterable[ImageSource]) -> FloatArray:
        """Embed n images: (n, dim); the first that cannot be used is raised."""
        rows = []
        for _, outcome in encode_stream(self.encoder, images, limits=self.limits):
            if isinstance(outcome, ImageError):
                raise outcome
            rows.append(outcome)
        return np.array(rows, dtype=np.float32).reshape(len(rows), self.encoder.dim)

    def _ranker(
        self, labels: Labels | None, templates: Templates | None, top_k: int | None, options: ScoringOptions
    ) -> Callable[[FloatArray], Classification]:
        """Check the options and embed the labels, once; what comes back ranks one image's vector."""
        if top_k is not None and top_k < 1:
            raise OptionError(f"top_k={top_k} is below 1.", "Use 1 or more, or leave it out for all.", field="top_k")
        scorer = self.scorer(labels, templates=templates, options=options)
        return lambda vector: scorer.answer(vector, top_k)

    def chosen(self, labels: Labels | None, templates: Templates | None) -> tuple[LabelSet, TemplateSet]:
        """The label set and the templates that a call with these labels and templates uses."""
        label_set = self._label_set(labels)
        if templates is not None:
            return label_set, load_templates(templates)
        return label_set, self._default_templates or choose_templates(self.encoder, label_set)

    def _label_set(self, labels: Labels | None) -> LabelSet:
        if labels is not None:
            return as_label_set(labels)
        if self._default_labels is None:
            raise LabelError("There are no labels.", "Give labels to the call or to the classifier.", field="labels")
        return self._default_labels

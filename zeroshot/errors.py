"""Every error zeroshot raises on purpose.

::

    ZeroshotError
    ├── MissingDependency           a package that this needs is not installed
    ├── InputError                  something the caller gave
    │   ├── ImageError              one image
    │   │   └── ImageNotFound, ImageUnreadable, ImageTooLarge, ImageSourceRefused
    │   ├── LabelError, TemplateError
    │   ├── LearningError           labelled images that nothing can be learnt from
    │   ├── DatasetError            a dataset that cannot be evaluated
    │   ├── OptionError             a number or choice out of range
    │   ├── OutputExists            a file that would be written exists
    │   └── DefinitionError         a label-set or template-set file
    │       └── DefinitionNotFound
    ├── GalleryError                a stored collection
    │   ├── GalleryNotFound, GalleryExists, GalleryBusy, GalleryMismatch, GalleryCorrupt
    │   └── GalleryRefused (a name, item or vector it cannot take), ItemNotFound, ItemExists
    ├── LabelSetError               a stored label set
    │   └── LabelSetNotFound, LabelSetExists, LabelSetCorrupt, LabelSetRefused (a name or a change)
    ├── ModelError                  an encoder or its files
    │   └── UnknownModel, ModelUnavailable, ModelCorrupt
    ├── ServiceError                a server that cannot answer now
    │   └── Overloaded, DeadlineExceeded, WorkerLost
    └── ClientError                 what a client of a server meets
        └── ServerProblem (the server's answer is a problem), ServerUnreachable

    ZeroshotWarning                 done as asked, with something to know: ModelWarning, LabelWarning

Each error carries a stable ``type`` (a slug that never changes: it is what JSON answers hold), a message that names the
value at fault, and a ``remedy`` that says what to do. ``str(error)`` is both.
"""

from __future__ import annotations

from typing import ClassVar


class ZeroshotError(Exception):
    """Base of every error raised on purpose.

    Parameters
    ----------
    message : str
        What was wrong, with the value at fault.
    remedy : str
        What to do about it.
    field : str or None
        The argument or request field at fault, where there is one.
    """

    type: ClassVar[str] = "error"

    def __init__(self, message: str, remedy: str = "", *, field: str | None = None) -> None:
        super().__init__(message, remedy)
        self.message = message
        self.remedy = remedy
        self.field = field

    def __str__(self) -> str:
        return f"{self.message} {self.remedy}".rstrip()


class MissingDependency(ZeroshotError):
    """A package that this needs is not installed."""

    type = "missing-dependency"


class InputError(ZeroshotError):
    """Something the caller gave cannot be used."""

    type = "invalid-input"


class ImageError(InputError):
    """One image cannot be used; others are unharmed."""

    type = "invalid-image"


class ImageNotFound(ImageError):
    """The path names nothing, or a folder holds no images."""

    type = "image-not-found"


class ImageUnreadable(ImageError):
    """The bytes are not a whole image in an accepted format."""

    type = "image-unreadable"


class ImageTooLarge(ImageError):
    """The image is over a limit on bytes, pixels or sides."""

    type = "image-too-large"


class ImageSourceRefused(ImageError):
    """The kind of source (a URL, say) is not accepted here."""

    type = "image-source-refused"


class LabelError(InputError):
    """The list of labels cannot be used."""

    type = "invalid-labels"


class TemplateError(InputError):
    """A template cannot be used."""

    type = "invalid-template"


class OptionError(InputError):
    """An option's value is out of its range."""

    type = "invalid-option"


class OutputExists(InputError):
    """A file that would be written exists already."""

    type = "output-exists"


class LearningError(InputError):
    """Nothing can be learnt from the labelled images given."""

    type = "invalid-examples"


class DatasetError(InputError):
    """A dataset cannot be evaluated as it is."""

    type = "invalid-dataset"


class DefinitionError(InputError):
    """A label-set or template-set file is not of the documented form."""

    type = "invalid-definition"


class DefinitionNotFound(DefinitionError):
    """No label set or template set has that name, and no file that path."""

    type = "definition-not-found"


class GalleryError(ZeroshotError):
    """A gallery cannot do what was asked."""

    type = "gallery-error"


class GalleryNotFound(GalleryError):
    """There is no gallery of that name."""

    type = "gallery-not-found"


class GalleryExists(GalleryError):
    """There is a gallery of that name already."""

    type = "gallery-exists"


class GalleryBusy(GalleryError):
    """Another process is writing to the gallery."""

    type = "gallery-busy"


class GalleryMismatch(GalleryError):
    """The gallery holds another encoder's vectors."""

    type = "gallery-mismatch"


class GalleryCorrupt(GalleryError):
    """The gallery's database is damaged."""

    type = "gallery-corrupt"


class GalleryRefused(GalleryError):
    """A name, an item or a vector that a gallery cannot take."""

    type = "gallery-refused"


class ItemNotFound(GalleryError):
    """The gallery holds nothing under that id."""

    type = "item-not-found"


class ItemExists(GalleryError):
    """The gallery holds something under that id already."""

    type = "item-exists"


class LabelSetError(ZeroshotError):
    """The stored label sets cannot do what was asked."""

    type = "label-set-error"


class LabelSetNotFound(LabelSetError):
    """There is no label set of that name, or it has no such version or label."""

    type = "label-set-not-found"


class LabelSetExists(LabelSetError):
    """There is a label set of that name, or a label of that name in it, already."""

    type = "label-set-exists"


class LabelSetCorrupt(LabelSetError):
    """The database of label sets is damaged."""

    type = "label-set-corrupt"


class LabelSetRefused(LabelSetError):
    """A name or a change that a label set cannot take."""

    type = "label-set-refused"


class ModelError(ZeroshotError):
    """An encoder cannot be had or used."""

    type = "model-error"


class UnknownModel(ModelError):
    """The model spec names nothing known."""

    type = "unknown-model"


class ModelUnavailable(ModelError):
    """The model is known but its files are not here."""

    type = "model-unavailable"


class ModelCorrupt(ModelError):
    """The model's files are damaged, incomplete or do not fit together."""

    type = "model-corrupt"


class ServiceError(ZeroshotError):
    """The server cannot answer now; the same request may be answered later."""

    type = "service-error"


class Overloaded(ServiceError):
    """There is more to do than the server takes on."""

    type = "overloaded"

    def __init__(self, message: str, remedy: str = "Try again later.", *, retry_after_s: float = 1.0) -> None:
        super().__init__(message, remedy)
        self.retry_after_s = retry_after_s


class DeadlineExceeded(ServiceError):
    """The answer was not there in time."""

    type = "deadline-exceeded"


class WorkerLost(ServiceError):
    """The thread that was at work on it has ended."""

    type = "worker-lost"


class ClientError(ZeroshotError):
    """A request to a server has no answer that can be used."""

    type = "client-error"


class ServerProblem(ClientError):
    """The server answered with a problem (RFC 9457)."""

    type = "server-problem"

    def __init__(self, status: int, slug: str, detail: str, field: str | None = None) -> None:
        super().__init__(detail, field=field)
        self.status = status
        self.slug = slug


class ServerUnreachable(ClientError):
    """There is no connection to the server, or it broke before the answer was there."""

    type = "server-unreachable"


class ZeroshotWarning(UserWarning):
    """Something was done as asked, and there is something to know about it."""


class ModelWarning(ZeroshotWarning):
    """How a model was loaded differs from what its name or its file may suggest."""


class LabelWarning(ZeroshotWarning):
    """Labels or texts that are not told apart as they were meant to be."""


def quote(value: object, *, limit: int = 60) -> str:
    """Show a value in a message: its ``repr``, shortened in the middle to at most `limit` characters."""
    text = repr(value)
    if len(text) <= limit:
        return text
    head = (limit - 5) * 2 // 3
    return f"{text[:head]} ... {text[-(limit - 5 - head) :]}"

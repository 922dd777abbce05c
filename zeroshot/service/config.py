"""Every bound and default of the service, once: what users may set comes from ``Settings``, the rest stands here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any

from zeroshot.service.api_keys import ApiKeys
from zeroshot.service.tracing import Tracing
from zeroshot.settings import Settings


def _setting(name: str) -> Any:
    """Take a field's default from the setting of the same name."""
    return Settings.model_fields[name].default


@dataclass(frozen=True)
class ServiceConfig:
    """How the service is bounded and guarded; sizes are in bytes, and names that ``Settings`` has mean the same.

    Parameters
    ----------
    keys : ApiKeys
        Whose requests are accepted; with none everybody's are.
    allowed_hosts : tuple of str
        Names that the header ``Host`` may have; any where it is empty.
    cors_origins : tuple of str
        Origins of web pages that may ask.
    rate_limit_per_minute : int
        Requests of each caller; 0 is no limit.
    url_hosts : tuple of str
        Hosts that images are fetched from; none where it is empty.
    url_timeout_s : float
        Most seconds to fetch one.
    fetch_threads : int
        Images fetched at once.
    batch_size : int
        Most images encoded at once.
    max_in_flight : int
        Most images that are being worked on.
    max_images_per_request : int
        Most images in a request that is no stream.
    max_bytes_in_flight : int
        Most bytes of all bodies that are being worked on.
    label_bytes : int
        What a body may have beside its image: 10,000 labels of 1,000 characters, escaped.
    max_texts : int
        Most texts in a request to embed them.
    max_text_chars : int
        Most characters of such a text.
    text_requests : int
        Most requests that have texts embedded at once; the others wait.
    few_labels : int
        More labels than these are read and ranked off the event loop.
    decode_threads : int
        Images decoded at once; 0 is one per core.
    request_timeout_s : float
        Most seconds a request may take.
    stall_timeout_s : float
        Seconds after which a running batch counts as stalled.
    stall_grace_s : float
        Seconds after which a process whose encoder is stalled ends.
    max_restarts : int
        Restarts of the encoder's thread in a row, without a batch between, before the process ends.
    watch_every_s : float
        Seconds between looks at the encoder's thread.
    probe_timeout_s : float
        Seconds within which the encoder has to answer ``/readyz``.
    probe_every_s : float
        Requests for ``/readyz`` within this time share one probe.
    warm_up_timeout_s : float
        Most seconds for the first images.
    close_timeout_s : float
        Most seconds for what waits when the service is closed.
    tracing : Tracing or None
        Makes spans.
    end_process : callable or None
        Ends the process when the encoder does not recover; None exits with code 70.
    """

    keys: ApiKeys = field(default_factory=ApiKeys)
    allowed_hosts: tuple[str, ...] = _setting("allowed_hosts")
    cors_origins: tuple[str, ...] = _setting("cors_origins")
    rate_limit_per_minute: int = _setting("rate_limit_per_minute")
    url_hosts: tuple[str, ...] = _setting("url_hosts")
    url_timeout_s: float = _setting("url_timeout_s")
    fetch_threads: int = 16
    batch_size: int = _setting("batch_size")
    max_in_flight: int = _setting("max_in_flight")
    max_images_per_request: int = _setting("max_images_per_request")
    max_bytes_in_flight: int = _setting("max_bytes_in_flight")
    label_bytes: int = 32 * 2**20
    max_texts: int = 2048
    max_text_chars: int = 100_000
    few_labels: int = 500
    text_requests: int = 64
    decode_threads: int = _setting("decode_threads")
    request_timeout_s: float = _setting("request_timeout_s")
    stall_timeout_s: float = _setting("stall_timeout_s")
    stall_grace_s: float = 5.0
    max_restarts: int = 5
    watch_every_s: float = 0.5
    probe_timeout_s: float = 5.0
    probe_every_s: float = 1.0
    warm_up_timeout_s: float = 600.0
    close_timeout_s: float = 10.0
    tracing: Tracing | None = None
    end_process: Callable[[], None] | None = None

    @classmethod
    def from_settings(cls, settings: Settings, **others: Any) -> ServiceConfig:
        """Take every field that is a setting from the settings.

        Parameters
        ----------
        settings : Settings
            What the user has set.
        **others : Any
            Fields that are given otherwise.

        Returns
        -------
        ServiceConfig
            The rest has its defaults.
        """
        names = {one.name for one in fields(cls)} & set(Settings.model_fields)
        names -= {"tracing", *others}  # there it is whether, here it is what
        return cls(**{name: getattr(settings, name) for name in names}, **others)

    @cached_property
    def stream_window(self) -> int:
        """How many images of a stream are worked on at once: two batches, and at most half of all places."""
        return max(1, min(2 * self.batch_size, self.max_in_flight // 2))

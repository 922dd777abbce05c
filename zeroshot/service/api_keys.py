"""API keys and rate limits.

Only hashes are kept. A key has 256 random bits, so a plain SHA-256 of it can neither be guessed nor reversed; every
hash is compared, in constant time, so that how long an answer takes says nothing.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import time
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from zeroshot.errors import OptionError, quote

_PREFIX = "zs_"
_SHORTEST = 16  # characters of a key that somebody chose
_HASHED = re.compile(r"sha256:[0-9a-f]{64}")
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_CALLERS_KEPT = 10_000


def new_key() -> str:
    """Make a key.

    Returns
    -------
    str
        To be given to a caller, once.
    """
    return _PREFIX + secrets.token_urlsafe(32)


def hash_key(key: str) -> str:
    """Hash a key.

    Parameters
    ----------
    key : str
        What a caller sends.

    Returns
    -------
    str
        "sha256:" and 64 hex digits: what is stored.

    Examples
    --------
    >>> hash_key("zs_x")[:15]
    'sha256:e0d77fa2'
    """
    return "sha256:" + hashlib.sha256(key.encode()).hexdigest()


def key_line(name: str, key: str) -> str:
    """Write the line that accepts a key.

    Parameters
    ----------
    name : str
        Whose it is.
    key : str
        What the caller sends.

    Returns
    -------
    str
        ``NAME=HASH``.

    Raises
    ------
    OptionError
        If the name has other characters than letters, digits, dots, dashes and underscores.
    """
    if not _NAME.fullmatch(name):
        raise OptionError(
            f"A key cannot be named {quote(name)}.", "Use up to 64 letters, digits, dots, dashes and underscores."
        )
    return f"{name}={hash_key(key)}"


@dataclass(frozen=True)
class ApiKeys:
    """Names and hashes of the keys that are accepted.

    Parameters
    ----------
    hashes : tuple of (str, str)
        Names, which logs and limits know callers by, and hashes.
    """

    hashes: tuple[tuple[str, str], ...] = ()

    @classmethod
    def read(cls, entries: Iterable[str], file: Path | None) -> ApiKeys:
        """Read keys from settings and from a file.

        Parameters
        ----------
        entries : iterable of str
            Each ``NAME=HASH``, ``HASH``, ``NAME=KEY`` or ``KEY``; a hash begins with "sha256:".
        file : Path or None
            One entry a line; blank lines and those that begin with # say nothing.

        Returns
        -------
        ApiKeys
            None of them in the clear.

        Raises
        ------
        OptionError
            If an entry is malformed, a key is short, a name is there twice, or the file cannot be read; no message
            shows a key.
        """
        lines = list(entries)
        if file is not None:
            try:
                text = file.read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                raise OptionError(
                    f"The file of API keys {file} cannot be read: {error}.", "Check ZEROSHOT_API_KEYS_FILE."
                ) from error
            lines += [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
        found: dict[str, str] = {}
        for position, line in enumerate(lines, start=1):
            name, value = _split(line, position)
            if name in found:
                raise OptionError(f"Two API keys are named {quote(name)}.", "Give each its own name.")
            found[name] = value if _HASHED.fullmatch(value) else hash_key(value)
        return cls(tuple(found.items()))

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self.hashes)

    def find(self, key: str) -> str | None:
        """Find whose key this is.

        Parameters
        ----------
        key : str
            What a caller sent.

        Returns
        -------
        str or None
            The name; None if the key is unknown.
        """
        given, found = hash_key(key), None
        for name, known in self.hashes:
            if hmac.compare_digest(given, known):
                found = name
        return found


class RateLimit:
    """A bucket of requests per caller, filled evenly (token bucket)."""

    def __init__(self, per_minute: int) -> None:
        self.per_minute = per_minute
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, caller: str, now: float | None = None) -> float:
        """Count a request."""
        now = time.monotonic() if now is None else now
        each = 60.0 / self.per_minute
        level, since = self._buckets.pop(caller, (float(self.per_minute), now))
        level = min(float(self.per_minute), level + (now - since) / each)
        wait = 0.0 if level >= 1 else (1 - level) * each
        self._buckets[caller] = (level - 1 if level >= 1 else level, now)
        while len(self._buckets) > _CALLERS_KEPT:
            self._buckets.popitem(last=False)
        return wait


def _split(line: str, position: int) -> tuple[str, str]:
    """Name and value of an entry; keys in base64 may end in =, so only what looks like a name is one."""
    before, sign, after = line.strip().partition("=")
    named = bool(sign and after.strip("=") and _NAME.fullmatch(before))
    name, value = (before, after.strip()) if named else (f"key-{position}", line.strip())
    if value.startswith("sha256:") and not _HASHED.fullmatch(value):
        raise OptionError(
            f"The hash of the API key {quote(name)} is not 64 hex digits.", "Make one: zeroshot keys new NAME"
        )
    if not value.startswith("sha256:") and len(value) < _SHORTEST:
        raise OptionError(
            f"The API key {quote(name)} has {len(value)} characters; {_SHORTEST} are the fewest.",
            "Make one: zeroshot keys new NAME",
        )
    return name, value

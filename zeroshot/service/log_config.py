"""Logs: one line per request, and its id in every line it causes; never a key, a label or a pixel."""

from __future__ import annotations

import logging
import sys
import time
import warnings
from typing import Literal

from zeroshot.errors import ZeroshotWarning
from zeroshot.service.context import current

ACCESS = logging.getLogger("zeroshot.access")

LogFormat = Literal["console", "json"]


def set_up_logging(form: LogFormat, level: str) -> None:
    """Send every log to standard error in one form."""
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(_add_request_id)
    handler.setFormatter(_json_formatter() if form == "json" else _Console())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        own = logging.getLogger(name)
        own.handlers.clear()
        own.propagate = name != "uvicorn.access"  # ACCESS says more
    for name in ("httpx", "httpcore", "asyncio"):
        logging.getLogger(name).setLevel(max(logging.getLogger().level, logging.WARNING))
    warnings.showwarning = _log_warning


def _log_warning(message: Warning | str, category: type[Warning], *_: object, **__: object) -> None:
    name = "zeroshot" if issubclass(category, ZeroshotWarning) else category.__name__
    logging.getLogger(f"{name}.warnings").warning(str(message))


def _add_request_id(record: logging.LogRecord) -> bool:
    if not hasattr(record, "request_id"):
        record.request_id = current.get().id
    return True


class _Console(logging.Formatter):
    """Time, level, request, message; what else a record carries as key=value."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(request_id)s %(message)s", "%H:%M:%S")

    def format(self, record: logging.LogRecord) -> str:
        more = " ".join(f"{key}={value}" for key, value in _extras(record).items())
        line = super().format(record)
        return f"{line} {more}" if more else line


_KNOWN = {*vars(logging.makeLogRecord({})), "message", "asctime", "request_id", "taskName", "color_message"}


def _extras(record: logging.LogRecord) -> dict[str, object]:
    return {key: value for key, value in vars(record).items() if key not in _KNOWN}


def _json_formatter() -> logging.Formatter:
    from pythonjsonlogger.json import JsonFormatter

    formatter = JsonFormatter(
        "%(asctime)s %(levelname)s %(name)s %(request_id)s %(message)s",
        datefmt="%Y-%m-%dT%H:%M:%SZ",
        rename_fields={"asctime": "time", "levelname": "level", "name": "logger"},
    )
    formatter.converter = time.gmtime
    return formatter

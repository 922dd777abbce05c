"""The HTTP service; ``create_app`` is its composition root."""

from zeroshot.service.access import LOOPBACK
from zeroshot.service.allocator import bound_memory
from zeroshot.service.app import ServiceOptions, create_app
from zeroshot.service.keys import ApiKeys, hash_key, key_line, new_key
from zeroshot.service.logs import set_up_logging
from zeroshot.service.remote import RemotePictures
from zeroshot.service.server import bind, serve
from zeroshot.service.tracing import Tracing

__all__ = [
    "LOOPBACK",
    "ApiKeys",
    "RemotePictures",
    "ServiceOptions",
    "Tracing",
    "bind",
    "bound_memory",
    "create_app",
    "hash_key",
    "key_line",
    "new_key",
    "serve",
    "set_up_logging",
]

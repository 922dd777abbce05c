"""The HTTP service; ``create_app`` puts it together."""

from zeroshot.service.api_keys import ApiKeys, hash_key, key_line, new_key
from zeroshot.service.app import create_app
from zeroshot.service.config import ServiceConfig
from zeroshot.service.log_config import set_up_logging
from zeroshot.service.middleware.auth import LOOPBACK
from zeroshot.service.server import bind, bound_memory, serve
from zeroshot.service.tracing import Tracing

__all__ = [
    "LOOPBACK",
    "ApiKeys",
    "ServiceConfig",
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

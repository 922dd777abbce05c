"""The HTTP service; ``create_app`` puts it together."""

from zeroshot.service.app import create_app
from zeroshot.service.config import ServiceConfig

__all__ = [
    "ServiceConfig",
    "create_app",
]

"""The HTTP service; ``create_app`` is its composition root."""

from zeroshot.service.app import create_app

__all__ = ["create_app"]

"""A client of ``zeroshot serve``: ``Client``, and ``AsyncClient`` with the same methods, awaited."""

from zeroshot.client.async_client import AsyncClient
from zeroshot.client.sync_client import Client

__all__ = ["AsyncClient", "Client"]

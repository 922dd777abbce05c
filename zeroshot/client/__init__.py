"""A client of ``zeroshot serve``: ``Client``, and ``AsyncClient`` with the same methods to be awaited."""

from zeroshot.client.asynchronous import AsyncClient
from zeroshot.client.synchronous import Client

__all__ = ["AsyncClient", "Client"]

"""How schemathesis sends NDJSON, which it does not know."""

from __future__ import annotations

import json

import schemathesis


@schemathesis.serializer("application/x-ndjson")
def ndjson(context: object, value: object) -> bytes:
    """A line as it is, or one of JSON."""
    return value.encode() if isinstance(value, str) else json.dumps(value).encode()

"""ASGI middleware, from the outside in: `request_log`, `auth`, `limits`."""

"""Fetch a picture over http(s) for Python and the command line, where the caller is the machine's own user.

It holds to a size and a time. It does not judge addresses, so a service must not expose it to strangers.
"""

from __future__ import annotations

import http.client
import time
import urllib.error
import urllib.request

from zeroshot.errors import ImageNotFound, ImageTooLarge


def fetch(url: str, *, max_bytes: int, timeout_s: float = 20.0) -> bytes:
    """Download a picture."""
    deadline = time.monotonic() + timeout_s
    request = urllib.request.Request(url, headers={"User-Agent": "zeroshot", "Accept": "image/*"})  # noqa: S310
    body = bytearray()
    try:
        with urllib.request.build_opener(_HttpOnlyRedirects).open(request, timeout=timeout_s) as response:
            while chunk := response.read(65536):
                body += chunk
                if len(body) > max_bytes:
                    raise ImageTooLarge(
                        f"{url} has more than {max_bytes:,} bytes.",
                        "Use a smaller picture, or raise ZEROSHOT_MAX_IMAGE_BYTES.",
                    )
                if time.monotonic() > deadline:
                    raise TimeoutError(f"not done after {timeout_s:g} s")
    except (urllib.error.URLError, http.client.HTTPException, OSError, ValueError) as error:
        raise ImageNotFound(f"{url} could not be fetched: {error}.", "Check the address in a browser.") from error
    return bytes(body)


class _HttpOnlyRedirects(urllib.request.HTTPRedirectHandler):
    """Follow redirects to http and https alone (urllib would follow ftp as well)."""

    def redirect_request(self, req, fp, code, msg, headers, newurl):  # type: ignore[no-untyped-def]
        if not newurl.lower().startswith(("http://", "https://")):
            raise urllib.error.URLError(f"redirected to {newurl}, which is not http(s)")
        return super().redirect_request(req, fp, code, msg, headers, newurl)

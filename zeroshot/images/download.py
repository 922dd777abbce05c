"""Download images over http(s), with an address policy that is safe against SSRF.

Under an ``AddressPolicy`` a name is resolved once, every address it has must be public, and the connection goes to the
address that was checked, so that a name cannot change its addresses in between (DNS rebinding). Redirects are followed
one by one, each checked like the first. The rules are those of OWASP's "Server-Side Request Forgery Prevention Cheat
Sheet". Without a policy, for the machine's own user, any host is asked, through the proxies that the environment names.
"""

from __future__ import annotations

import fnmatch
import http.client
import ipaddress
import socket
import ssl
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple
from urllib.parse import unquote, urljoin, urlsplit
from urllib.request import getproxies, proxy_bypass

from zeroshot.errors import ImageNotFound, ImageSourceRefused, ImageTooLarge, quote

_REDIRECTS = 10
_CHUNK = 64 * 1024
_NAT64 = (ipaddress.ip_network("64:ff9b::/96"), ipaddress.ip_network("64:ff9b:1::/48"))

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolver = Callable[[str, int], Sequence[str]]


def resolve(host: str, port: int) -> Sequence[str]:
    """Ask the system for a name's addresses."""
    return [str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


def is_public(address: str) -> bool:
    """Whether an address belongs to the public internet, as do all IPv4 addresses that an IPv6 address carries."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    return all(one.is_global and not one.is_multicast for one in (parsed, *_inside(parsed)))


def _inside(address: Address) -> list[Address]:
    """IPv4 addresses that an IPv6 address carries."""
    if not isinstance(address, ipaddress.IPv6Address):
        return []
    found: list[Address] = [one for one in (address.ipv4_mapped, address.sixtofour) if one is not None]
    if address.teredo is not None:
        found += address.teredo
    low = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    if int(address) >> 32 == 0 or any(address in network for network in _NAT64):
        found.append(low)
    return found


@dataclass(frozen=True)
class AddressPolicy:
    """Where a service may fetch images from for others: patterns of host names, such as "*.example.com" or "*"."""

    hosts: tuple[str, ...]
    resolver: Resolver = field(default=resolve)
    is_allowed: Callable[[str], bool] = field(default=is_public)

    def check(self, host: str, port: int) -> str:
        """Give the one address to connect to, or refuse the host."""
        if not any(fnmatch.fnmatchcase(host.lower(), pattern.lower()) for pattern in self.hosts):
            raise ImageSourceRefused(
                f"The host {quote(host)} is not one that images are fetched from.", "Send the image itself."
            )
        addresses = list(self.resolver(host, port))
        if not addresses or not all(self.is_allowed(address) for address in addresses):
            raise ImageSourceRefused(
                f"The host {quote(host)} does not lead to the public internet.", "Send the image itself."
            )
        return addresses[0]


@dataclass(frozen=True)
class Downloader:
    """Downloads images over http(s), within bounds on bytes and on seconds, redirects included."""

    max_bytes: int
    timeout_s: float
    policy: AddressPolicy | None = None

    def fetch(self, url: str, deadline: float = float("inf")) -> bytes:
        """Download an image; `deadline` is on the clock of ``time.monotonic``."""
        deadline = min(deadline, time.monotonic() + self.timeout_s)
        shown, seen = quote(url, limit=200), url
        try:
            for _ in range(_REDIRECTS + 1):
                with _Line(deadline) as line:
                    answer = self._ask(line, seen)
                    location = answer.headers.get("location")
                    if answer.status not in (301, 302, 303, 307, 308) or location is None:
                        return self._read(answer, deadline, shown)
                seen = urljoin(seen, location)
        except (OSError, http.client.HTTPException, ValueError) as error:
            reason = "it took too long" if time.monotonic() >= deadline else error
            raise ImageNotFound(f"{shown} could not be fetched: {reason}.", "Check the address.") from error
        raise ImageNotFound(f"{shown} redirects more than {_REDIRECTS} times.", "Give the address it leads to.")

    def _ask(self, line: _Line, url: str) -> http.client.HTTPResponse:
        """Connect to an address that was checked, and send the request."""
        target = urlsplit(url)
        host, is_https = (target.hostname or "").rstrip("."), target.scheme == "https"
        is_plain = target.scheme in ("http", "https") and bool(host)
        if self.policy is not None and (not is_plain or target.username is not None):
            raise ImageSourceRefused(
                f"{quote(url, limit=200)} is no plain http(s) address.", "Give one, without a user."
            )
        if not is_plain:
            raise ValueError(f"{quote(url, limit=200)} is not an http(s) address")
        port = target.port or (443 if is_https else 80)
        path = (target.path or "/") + (f"?{target.query}" if target.query else "")
        headers = {"Host": target.netloc, "User-Agent": "zeroshot", "Accept": "image/*", "Connection": "close"}
        if self.policy is not None:
            line.connect(self.policy.check(host, port), port)
        elif (proxy := _proxy_for(target.scheme, host)) is None:
            line.connect(host, port)
        else:
            line.connect(proxy.host, proxy.port)
            if is_https:
                line.open_tunnel(f"{host}:{port}", proxy.headers)
            else:
                path, headers = url, headers | proxy.headers
        if is_https:
            line.start_tls(host)
        connection = http.client.HTTPConnection(str(target.hostname))
        connection.sock = line.socket
        connection.request("GET", path, headers=headers)
        line.answer = connection.getresponse()
        return line.answer

    def _read(self, answer: http.client.HTTPResponse, deadline: float, shown: str) -> bytes:
        if answer.status != 200:
            raise OSError(f"it answered {answer.status}")
        body = bytearray()
        while chunk := answer.read1(_CHUNK):
            body += chunk
            if len(body) > self.max_bytes:
                raise ImageTooLarge(f"{shown} has more than {self.max_bytes:,} bytes.", "Use a smaller image.")
        if time.monotonic() >= deadline:
            raise TimeoutError
        if answer.length:
            raise OSError(f"it ended {answer.length:,} bytes early")
        return bytes(body)


class _Proxy(NamedTuple):
    host: str
    port: int
    headers: dict[str, str]


def _proxy_for(scheme: str, host: str) -> _Proxy | None:
    """Give the proxy that the environment names for an address."""
    given = None if proxy_bypass(host) else getproxies().get(scheme)
    if not given:
        return None
    proxy = urlsplit(given if "//" in given else f"//{given}")
    user = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}" if proxy.username else ""
    headers = {"Proxy-Authorization": f"Basic {b64encode(user.encode()).decode()}"} if user else {}
    return _Proxy(str(proxy.hostname), proxy.port or 80, headers)


class _Line:
    """A connection that is cut when its time is up, however slowly the other side talks."""

    def __init__(self, deadline: float) -> None:
        self.socket: socket.socket | None = None
        self.answer: http.client.HTTPResponse | None = None
        self._deadline = deadline
        self._cut = threading.Timer(self.left_s, self._shut)
        self._cut.daemon = True

    @property
    def left_s(self) -> float:
        """Seconds left, or TimeoutError."""
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left

    def __enter__(self) -> _Line:
        self._cut.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._cut.cancel()
        for one in (self.answer, self.socket):
            if one is not None:
                one.close()

    def connect(self, host: str, port: int) -> None:
        """Connect to an address."""
        self.socket = socket.create_connection((host, port), timeout=self.left_s)

    def open_tunnel(self, address: str, headers: dict[str, str]) -> None:
        """Have a proxy connect to an address."""
        lines = [f"CONNECT {address} HTTP/1.1", f"Host: {address}", *(f"{k}: {v}" for k, v in headers.items())]
        self._open_socket.sendall("\r\n".join([*lines, "", ""]).encode("latin-1"))
        answer = http.client.HTTPResponse(self._open_socket, method="CONNECT")
        answer.begin()
        answer.close()
        if answer.status != 200:
            raise OSError(f"the proxy answered {answer.status}")

    def start_tls(self, host: str) -> None:
        """Encrypt, after checking the host's certificate."""
        self.socket = secured = ssl.create_default_context().wrap_socket(
            self._open_socket, server_hostname=host, do_handshake_on_connect=False
        )
        secured.do_handshake()

    @property
    def _open_socket(self) -> socket.socket:
        if self.socket is None:
            raise OSError("there is no connection")
        return self.socket

    def _shut(self) -> None:
        if self.socket is not None:
            with suppress(OSError):
                self.socket.shutdown(socket.SHUT_RDWR)

"""Images fetched for strangers: no spelling of an address leads into the network."""

from __future__ import annotations

import http.server
import threading
import time
from collections.abc import Iterator, Sequence
from http import HTTPStatus

import pytest

from tests.images import PHOTOS
from zeroshot.errors import ImageNotFound, ImageSourceRefused, ImageTooLarge
from zeroshot.images.download import AddressPolicy, Downloader, is_public

CAT = (PHOTOS / "cat.jpg").read_bytes()

PRIVATE = [
    "127.0.0.1", "127.1", "127.0.1", "127.255.255.254", "2130706433", "0x7f000001", "0x7f.0.0.1", "0x7f.1",
    "0177.0.0.1", "0177.0.0.01", "017700000001", "127.0.0.1.", "localhost", "LOCALHOST", "localhost.",
    "0.0.0.0", "0", "0x0", "10.0.0.1", "10.255.255.255", "0xa.0.0.1", "167772161", "012.0.0.1", "172.16.0.1",  # noqa: S104
    "172.31.255.255", "192.168.0.1", "192.168.1", "0xc0a80001", "3232235521", "169.254.169.254", "0xa9fea9fe",
    "2852039166", "0251.0376.0251.0376", "100.64.0.1", "192.0.0.1", "198.18.0.1", "224.0.0.1", "239.255.255.255",
    "240.0.0.1", "255.255.255.255", "192.0.2.1", "203.0.113.5", "[::1]", "[::]", "[0:0:0:0:0:0:0:1]",
    "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::ffff:10.0.0.1]", "[::ffff:169.254.169.254]", "[::127.0.0.1]",
    "[::7f00:1]", "[fc00::1]", "[fd12:3456::1]", "[fe80::1]", "[ff02::1]", "[2002:7f00:0001::]", "[2002:a00:1::1]",
    "[64:ff9b::127.0.0.1]", "[64:ff9b::7f00:1]", "[64:ff9b:1::7f00:1]", "[2001:0:0:0:0:0:80ff:fffe]", "[2001:db8::1]",
    "①②⑦.⓪.⓪.①", "127。0。0。1", "１２７.0.0.1",  # noqa: RUF001 (ambiguous on purpose)
]  # fmt: skip


@pytest.mark.parametrize("host", PRIVATE)
def test_no_spelling_of_a_private_address_is_connected_to(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.create_connection", lambda *_, **__: pytest.fail("connected"))
    for url in (f"http://{host}/cat.jpg", f"https://{host}:8443/cat.jpg"):
        with pytest.raises((ImageSourceRefused, ImageNotFound)):
            Downloader(10**6, 10.0, AddressPolicy(("*",))).fetch(url)


@pytest.mark.parametrize(
    "url",
    [
        "ftp://example.com/cat.jpg", "file:///etc/passwd", "gopher://example.com/", "http:///cat.jpg", "http://",
        "http://user@example.com/", "http://user:password@example.com/", "http://127.0.0.1@example.com/",
        "http://example.com@127.0.0.1/", "http://127.0.0.1\\@example.com/", "http://example.com:0x50/",
        "http://example.com:99999/", "http://exam\r\nple.com/", "http://a..b/", "//example.com/", "jar:http://example.com!/",
    ],
)  # fmt: skip
def test_what_is_no_plain_address_is_refused(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.create_connection", lambda *_, **__: pytest.fail("connected"))
    with pytest.raises((ImageSourceRefused, ImageNotFound)):
        Downloader(10**6, 10.0, AddressPolicy(("*",), resolver=lambda *_: ["127.0.0.1"])).fetch(url)


def test_public_addresses_are_public() -> None:
    assert all(map(is_public, ["1.1.1.1", "8.8.8.8", "93.184.216.34", "2606:4700::1111", "64:ff9b::101:101"]))
    assert not is_public("no address")


class Pages(http.server.BaseHTTPRequestHandler):
    """A server of images, redirects, and worse."""

    def do_GET(self) -> None:
        path, _, rest = self.path[1:].partition("/")
        if path == "to":
            self.send_response(int(rest[:3]))
            self.send_header("Location", rest[4:])
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif path == "again":
            self.send_response(HTTPStatus.FOUND)
            self.send_header("Location", self.path)
            self.end_headers()
        elif path == "slow":
            self.send_response(HTTPStatus.OK)
            self.end_headers()
            for _ in range(100):
                time.sleep(0.05)
                self.wfile.write(b"x")
        elif path == "headers":
            self.wfile.write(b"HTTP/1.1 200 OK\r\n")
            for _ in range(100):
                time.sleep(0.05)
                self.wfile.write(b"X: y\r\n")
        elif path == "endless":
            self.send_response(HTTPStatus.OK)
            self.end_headers()
            for _ in range(1000):
                self.wfile.write(bytes(65536))
        elif path == "short":
            self.send_response(HTTPStatus.OK)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b"x" * 10)
        elif path == "garbage":
            self.wfile.write(b"\x00\x01 this is no HTTP\r\n\r\n")
        elif path == "cat.jpg":
            self.send_response(HTTPStatus.OK)
            self.send_header("Content-Length", str(len(CAT)))
            self.end_headers()
            self.wfile.write(CAT)
        else:
            self.send_error(HTTPStatus.NOT_FOUND)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class Quiet(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """A client that hangs up is what these tests are about."""


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    server = Quiet(("127.0.0.1", 0), Pages)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


def remote(timeout_s: float = 10.0, **policy: object) -> Downloader:
    """One that knows two names, "images.test" here and "inside.test" there, and takes this machine for public."""
    addresses = {"images.test": "127.0.0.1", "inside.test": "10.0.0.5"}
    settings = {
        "resolver": lambda host, _: [addresses.get(host, host)], "is_allowed": lambda one: one == "127.0.0.1", **policy
    }  # fmt: skip
    return Downloader(10**6, timeout_s, AddressPolicy(("*",), **settings))


def test_an_image_is_fetched_through_redirects(port: int) -> None:
    here = f"http://images.test:{port}"
    assert remote().fetch(f"{here}/cat.jpg") == CAT
    assert remote().fetch(f"{here}/to/302/{here}/cat.jpg") == CAT
    assert remote().fetch(f"{here}/to/307//cat.jpg") == CAT


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("target", ["http://inside.test/", "http://169.254.169.254/latest/", "file:///etc/passwd"])
def test_a_redirect_is_checked_like_an_address(port: int, status: int, target: str) -> None:
    with pytest.raises(ImageSourceRefused):
        remote().fetch(f"http://images.test:{port}/to/{status}/{target}")


def test_a_name_that_changes_its_mind_is_connected_to_where_it_was_checked(port: int) -> None:
    asked: list[str] = []

    def rebinding(host: str, _: int) -> Sequence[str]:
        asked.append(host)
        return ["127.0.0.1"] if len(asked) == 1 else ["10.0.0.5"]

    assert remote(resolver=rebinding).fetch(f"http://images.test:{port}/cat.jpg") == CAT
    assert asked == ["images.test"]  # once for the check, and no more for the connection
    with pytest.raises(ImageSourceRefused):
        remote(resolver=rebinding).fetch(f"http://images.test:{port}/cat.jpg")
    with pytest.raises(ImageSourceRefused):  # one address of many is not public
        remote(resolver=lambda *_: ["127.0.0.1", "10.0.0.5"]).fetch(f"http://images.test:{port}/cat.jpg")
    with pytest.raises(ImageSourceRefused):
        remote(resolver=lambda *_: []).fetch(f"http://images.test:{port}/cat.jpg")


def test_only_hosts_of_the_list_are_asked(port: int) -> None:
    def only(*hosts: str) -> Downloader:
        policy = AddressPolicy(hosts, resolver=lambda *_: ["127.0.0.1"], is_allowed=lambda _: True)
        return Downloader(10**6, 10.0, policy)

    assert only("images.test").fetch(f"http://images.test:{port}/cat.jpg") == CAT
    assert only("*.test").fetch(f"http://IMAGES.test:{port}/cat.jpg") == CAT
    for hosts in (("images.example",), ("test",), ("*.images.test",)):
        with pytest.raises(ImageSourceRefused, match="not one that images are fetched from"):
            only(*hosts).fetch(f"http://images.test:{port}/cat.jpg")


def test_bytes_and_time_are_bounded(port: int) -> None:
    here = f"http://images.test:{port}"
    with pytest.raises(ImageTooLarge):
        remote().fetch(f"{here}/endless")
    for path in ("slow", "headers"):
        start = time.monotonic()
        with pytest.raises(ImageNotFound, match="took too long"):
            remote(timeout_s=0.5).fetch(f"{here}/{path}")
        assert time.monotonic() - start < 3
    with pytest.raises(ImageNotFound, match="took too long"):
        remote().fetch(f"{here}/cat.jpg", deadline=time.monotonic() - 1)
    with pytest.raises(ImageNotFound, match="redirects more than"):
        remote().fetch(f"{here}/again")
    for path, message in (("nowhere", "it answered 404"), ("short", "early"), ("garbage", "could not be fetched")):
        with pytest.raises(ImageNotFound, match=message):
            remote().fetch(f"{here}/{path}")
    with pytest.raises(ImageNotFound, match="could not be fetched"):
        remote().fetch("http://images.test:1/cat.jpg")


def test_without_a_policy_any_address_is_asked_and_proxies_are_used(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    here = f"http://127.0.0.1:{port}"
    for name in ("http_proxy", "https_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    anywhere = Downloader(10**6, 5.0)
    assert anywhere.fetch(f"{here}/cat.jpg") == CAT
    with pytest.raises(ImageNotFound, match="not an http"):
        anywhere.fetch(f"{here}/to/302/file:///etc/passwd")
    asked: list[tuple[str, str | None]] = []

    class Proxy(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append((self.path, self.headers["Proxy-Authorization"]))
            self.send_response(HTTPStatus.OK)
            self.end_headers()
            self.wfile.write(CAT)

        def do_CONNECT(self) -> None:
            asked.append((self.path, self.headers["Proxy-Authorization"]))
            self.send_error(HTTPStatus.FORBIDDEN)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    proxy = Quiet(("127.0.0.1", 0), Proxy)
    threading.Thread(target=proxy.serve_forever, daemon=True).start()
    monkeypatch.setenv("http_proxy", f"http://me:secret@127.0.0.1:{proxy.server_port}")
    monkeypatch.setenv("https_proxy", f"127.0.0.1:{proxy.server_port}")
    try:
        assert anywhere.fetch("http://images.test/cat.jpg?a=1") == CAT
        with pytest.raises(ImageNotFound, match="the proxy answered 403"):
            anywhere.fetch("https://images.test/cat.jpg")
        assert asked == [("http://images.test/cat.jpg?a=1", "Basic bWU6c2VjcmV0"), ("images.test:443", None)]
        assert remote().fetch(f"http://images.test:{port}/cat.jpg") == CAT  # a policy asks no proxy
    finally:
        proxy.shutdown()
        proxy.server_close()
    assert len(asked) == 2

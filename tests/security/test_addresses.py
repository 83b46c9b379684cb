"""Pictures are fetched from public http(s) addresses only, within limits of size and time, whatever a server says."""

import hashlib
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lmmcl.data.pictures import addresses
from lmmcl.data.pictures.addresses import RefusedError, is_public
from lmmcl.data.pictures.fetch import Wanted, fetch
from lmmcl.data.pictures.manners import Manners
from lmmcl.data.pictures.web import open_url
from lmmcl.data.sources import FileSource
from lmmcl.errors import UserError

LOOPBACK = Manners(timeout=2.0, longest=0.4, pause=0.01, attempts=2, max_bytes=10_000, allow_private=True)


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.parametrize(
    "address",
    [
        *(
            "0.0.0.0",
            "127.8.9.1",
            "10.0.0.1",
            "169.254.169.254",
            "172.31.0.1",
            "192.168.1.1",
            "100.100.100.200",
        ),
        *("198.18.0.1", "224.0.0.251", "240.0.0.1", "255.255.255.255", "192.0.2.1", "203.0.113.9"),
        *(
            "::",
            "::1",
            "fe80::1",
            "fe80::1%eth0",
            "fc00::1",
            "fd12::1",
            "fec0::1",
            "ff02::1",
            "2001:db8::1",
            "3fff::1",
        ),
        *(
            "::ffff:127.0.0.1",
            "::ffff:a9fe:a9fe",
            "::127.0.0.1",
            "2002:7f00:1::",
            "2002:a00:1::1",
            "64:ff9b::a00:1",
        ),
        *("64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "2001:0:a00:1::", "fd00:ec2::254", "5f00::1", "100::1"),
        *(
            "64:ff9b::",
            "64:ff9b::7f00:1",
            "::ffff:0:7f00:1",
            "::ffff:169.254.169.254%eth0",
            "::1%lo",
            "fe80::1%25lo",
        ),
        *(
            "192.0.0.192",
            "168.63.129.16",
            "192.88.99.1",
            "::ffff:168.63.129.16",
            "64:ff9b::c000:c0",
            "0.0.0.1",
        ),
    ],
)
def test_an_address_that_is_not_of_the_open_web(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "2606:4700::1111", "64:ff9b::808:808", "::ffff:8.8.8.8", "2002:808:808::1"]
)
def test_an_address_of_the_open_web(address: str) -> None:
    assert is_public(address)


HOSTS = [
    "127.0.0.1",
    "2130706433",
    "0x7f000001",
    "0177.0.0.1",
    "127.1",
    "0x7f.1",
    "0",
    "[::1]",
    "[::]",
    "[::ffff:10.0.0.1]",
    "[64:ff9b::7f00:1]",
    "[fe80::1%25eth0]",
    "0x7f.0.0.1",
    "017700000001",
    "%31%32%37.0.0.1",
]


@pytest.mark.parametrize("host", [*HOSTS, "169.254.169.254", "2852039166", "localhost"])
def test_a_host_is_judged_by_what_it_resolves_to_however_it_is_written(host: str) -> None:
    with pytest.raises(RefusedError, match="private network"):
        open_url(f"http://{host}/1.jpg", 1.0)


NAMES = ["localhost.", "a.localhost", "metadata.google.internal.", "nas.lan", "printer"]
SPELLED = [
    "169.254.169.%32%35%34",
    "8.8.8.8%2einternal",
    "nas%2elan",
    "a.ｌocalhost",
    "10。0。0。1",
    "①②⑦.0.0.1",
    "nas.l\u00adan",
    "10.0.0.1%3A443%20HTTP%2F1.0%0D%0AX%3A%20a.example.org",
]


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("host", [*HOSTS, *NAMES, *SPELLED])
def test_behind_a_proxy_it_is_judged_by_its_name(
    host: str, scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"{scheme}_proxy", "http://proxy.example:3128")
    monkeypatch.setattr(socket, "getaddrinfo", _answers())  # the proxy is not even looked up
    with pytest.raises(RefusedError, match="private network"):
        open_url(f"{scheme}://{host}/1.jpg", 1.0)


@pytest.mark.parametrize(
    "host", ["example.org", "8.8.8.8", "[2606:4700::1111]", "bücher.example", "a_b.example.org"]
)
def test_behind_a_proxy_a_public_name_is_asked_for(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def resolve(name: str, *_: Any, **__: Any) -> Any:
        asked.append(name)
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setenv("https_proxy", "http://proxy.example:3128")
    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    with pytest.raises(RefusedError, match="there is no such host"):
        open_url(f"https://{host}/1.jpg", 1.0)
    assert asked == ["proxy.example"]


def test_what_the_proxy_is_not_asked_for_is_checked_as_without_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception with a port once counted for one half of the check only."""
    monkeypatch.setenv("http_proxy", "http://proxy.example:3128")
    monkeypatch.setenv("no_proxy", "inside.example:8080")
    monkeypatch.setattr(socket, "getaddrinfo", _answers(["10.0.0.1"]))
    with pytest.raises(RefusedError, match=r"inside\.example is an address of this machine"):
        open_url("http://inside.example:8080/1.jpg", 1.0)


def _answers(*answers: list[str]) -> Any:
    """A resolver that says something else every time."""
    left = list(answers)

    def resolve(host: str, port: int, **_: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in left.pop(0)]

    return resolve


def test_a_name_is_looked_up_once_and_connected_to_as_it_was_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a second answer could be a private address (DNS rebinding)."""
    connected: list[Any] = []

    def connect(_: socket.socket, address: Any) -> None:
        connected.append(address)
        raise OSError("no network here")

    monkeypatch.setattr(socket, "getaddrinfo", _answers(["93.184.215.14"], ["127.0.0.1"]))
    monkeypatch.setattr(socket.socket, "connect", connect)
    with pytest.raises(Exception, match="no network here"):
        open_url("http://rebinds.example/1.jpg", 1.0)
    assert connected == [("93.184.215.14", 80)]


def test_a_redirect_is_looked_up_once_too_and_connected_to_as_it_was_checked(
    servers: list["Server"], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first hop's answers say nothing of the second's, and each is asked for once."""
    servers.append(Server(b"HTTP/1.1 302 Found\r\nLocation: http://b.example/x\r\n\r\n", b"", pause=10.0))
    port = int(servers[0].address.split(":")[2].split("/")[0])
    connected: list[Any] = []
    connect = socket.socket.connect

    def to_the_server(self: socket.socket, address: Any) -> None:
        connected.append(address[0])
        if address[0] != "93.184.215.14":
            raise OSError("no network here")
        connect(self, ("127.0.0.1", port))

    monkeypatch.setattr(socket, "getaddrinfo", _answers(["93.184.215.14"], ["93.184.215.15"], ["127.0.0.1"]))
    monkeypatch.setattr(socket.socket, "connect", to_the_server)
    with pytest.raises(Exception, match="no network here"):
        open_url("http://a.example/1.jpg", 1.0)
    assert connected == ["93.184.215.14", "93.184.215.15"]


def test_one_private_address_among_public_ones_is_not_connected_to(monkeypatch: pytest.MonkeyPatch) -> None:
    connected: list[Any] = []

    def connect(_: socket.socket, address: Any) -> None:
        connected.append(address)
        raise OSError("unreachable")

    monkeypatch.setattr(socket, "getaddrinfo", _answers(["93.184.215.14", "10.0.0.1"]))
    monkeypatch.setattr(socket.socket, "connect", connect)
    with pytest.raises(RefusedError, match="private network"):
        open_url("http://both.example/1.jpg", 1.0)
    assert connected == [("93.184.215.14", 80)]


@pytest.mark.parametrize(
    "url",
    [
        "http://user:word@example.org/1.jpg",
        "http://example.org@127.0.0.1/",
        r"http://example.org\@127.0.0.1/",
    ],
)
def test_an_address_with_a_user_is_refused(url: str) -> None:
    with pytest.raises(RefusedError, match="no user and no password") as caught:
        open_url(url, 1.0)
    assert "word@" not in str(caught.value)


class Server:
    """Says the same to everybody, byte by byte if need be, and never ends by itself."""

    def __init__(self, head: bytes, then: bytes, pause: float) -> None:
        self._head, self._then, self._pause = head, then, pause
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.asked = self.sent = 0
        self._stop = threading.Event()
        threading.Thread(target=self._serve, daemon=True).start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._socket.getsockname()[1]}/1.jpg"

    def _serve(self) -> None:
        while not self._stop.is_set():
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self.asked += 1
            threading.Thread(target=self._talk, args=(connection,), daemon=True).start()

    def _talk(self, connection: socket.socket) -> None:
        with connection:
            try:
                connection.recv(4096)
                connection.sendall(self._head)
                while not self._stop.wait(self._pause):
                    connection.sendall(self._then)
                    self.sent += len(self._then)
            except OSError:
                return

    def close(self) -> None:
        self._stop.set()
        self._socket.close()


@pytest.fixture
def servers() -> Iterator[list[Server]]:
    made: list[Server] = []
    yield made
    for server in made:
        server.close()


ENDLESS = {
    "a header": (b"HTTP/1.1 200 OK\r\nX: ", b"a"),
    "headers": (b"HTTP/1.1 200 OK\r\n", b"X: a\r\n"),
    "provisional answers": (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "a status": (b"HTTP/1.1 200 ", b"O"),
    "a picture": (b"HTTP/1.1 200 OK\r\n\r\n", b"a"),
}


@pytest.mark.parametrize("kind", ENDLESS)
def test_a_server_that_never_comes_to_an_end_is_left_in_time(
    kind: str, servers: list[Server], tmp_path: Path
) -> None:
    servers.append(Server(*ENDLESS[kind], pause=0.02))
    start = time.monotonic()
    result = fetch([Wanted(servers[0].address, "0" * 64)], tmp_path, LOOPBACK)
    assert result.failures[0].reason == "it took longer than 0.4 s"
    assert time.monotonic() - start < 2.0
    assert servers[0].asked == 1  # it is not asked again


def test_what_comes_with_a_redirect_is_not_read(servers: list[Server], tmp_path: Path) -> None:
    body = b"a picture"
    picture = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    servers.append(Server(picture, b"", pause=10.0))
    head = f"HTTP/1.1 302 Found\r\nLocation: {servers[0].address}\r\n\r\n".encode()
    servers.append(Server(head, bytes(1 << 16), pause=0.0))
    manners = Manners(timeout=2.0, longest=20.0, allow_private=True, attempts=1)
    result = fetch([Wanted(servers[1].address, hashlib.sha256(body).hexdigest())], tmp_path, manners)
    assert result.fetched == 1, result.failures
    assert servers[1].sent < 64 << 20


@pytest.mark.parametrize(
    "where", ["169.254.169.254", "[::1]", "10.0.0.1:8080", "2130706433", "[::ffff:a9fe:a9fe]"]
)
def test_every_hop_is_checked(
    where: str, servers: list[Server], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    servers.append(
        Server(f"HTTP/1.1 302 Found\r\nLocation: http://{where}/x\r\n\r\n".encode(), b"", pause=10.0)
    )
    public = addresses.is_public
    first = servers[0].address.split("/")[2].split(":")[0]
    seen: list[str] = []

    def but_the_server(address: str) -> bool:
        seen.append(address)
        return public(address) or (address == first and len(seen) == 1)

    monkeypatch.setattr(addresses, "is_public", but_the_server)
    manners = Manners(timeout=1.0, longest=2.0, attempts=1)
    result = fetch([Wanted(servers[0].address, "0" * 64)], tmp_path, manners)
    assert "private network" in result.failures[0].reason
    assert len(seen) == 2


@pytest.mark.parametrize(
    "image", ["http://169.254.169.254/1.jpg", "https://example.org/1.jpg", "data:image/png;base64,AA"]
)
def test_a_row_never_has_anything_fetched(
    image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", _answers())
    (tmp_path / "rows.csv").write_text(f'image,question,answer\n"{image}",q,a\n')
    with pytest.raises(UserError, match="must be a file on disk"):
        FileSource(tmp_path / "rows.csv")

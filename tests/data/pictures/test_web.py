"""Addresses of the open web, and those that are not."""

import socket
from datetime import UTC, datetime, timedelta
from email.message import Message
from email.utils import format_datetime
from io import BytesIO
from typing import Any
from urllib.request import Request

import pytest

from lmmcl.data.pictures.addresses import RefusedError
from lmmcl.data.pictures.web import TransientError, _Redirects, open_url, retry_after


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/hostname",
        "ftp://example.org/1.jpg",
        "data:image/png;base64,AA==",
        "photo.jpg",
        "http://",
        "",
    ],
)
def test_only_http_and_https_are_opened(url: str) -> None:
    with pytest.raises(RefusedError, match="only http and https"):
        open_url(url, 1.0)


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "10.1.2.3", "192.168.0.1", "172.16.0.9", "169.254.169.254", "100.64.0.1", "0.0.0.0"),
        *(
            "[::1]",
            "[fe80::1]",
            "[fd00::1]",
            "[::ffff:127.0.0.1]",
            "[::ffff:10.0.0.1]",
            "224.0.0.1",
            "2130706433",
        ),
    ],
)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_private_hosts_are_refused(scheme: str, host: str) -> None:
    with pytest.raises(RefusedError, match="private network"):
        open_url(f"{scheme}://{host}/1.jpg", 1.0)


def _resolve_to(*addresses: str) -> Any:
    def resolve(host: str, port: int, **_: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

    return resolve


def test_a_public_name_of_a_private_address_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", _resolve_to("10.0.0.7"))
    with pytest.raises(RefusedError, match=r"pictures\.example is an address of this machine"):
        open_url("https://pictures.example/1.jpg", 1.0)


@pytest.mark.parametrize("variable", ["http_proxy", "https_proxy"])
def test_behind_a_proxy_private_names_are_refused(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, "http://proxy.example:3128")
    scheme = variable.removesuffix("_proxy")
    for host in ("169.254.169.254", "metadata.internal", "printer"):
        with pytest.raises(RefusedError, match="private network"):
            open_url(f"{scheme}://{host}/1.jpg", 1.0)


def test_a_proxy_of_the_environment_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as proxy:
        proxy.bind(("127.0.0.1", 0))
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.getsockname()[1]}")
        with pytest.raises(TransientError, match="refused"):  # nobody listens there
            open_url("http://pictures.example/1.jpg", 1.0)


def test_a_host_that_does_not_exist_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def resolve(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    with pytest.raises(RefusedError, match="there is no such host"):
        open_url("http://pictures.example/1.jpg", 1.0)


def test_a_closed_port_may_pass() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        with pytest.raises(TransientError, match="refused"):
            open_url(f"http://127.0.0.1:{closed.getsockname()[1]}/", 1.0, allow_private=True)


def test_what_is_said_to_a_proxy_is_not_said_to_the_host_of_a_redirect() -> None:
    asked = Request("http://first.example/")
    asked.add_header("Proxy-authorization", "Basic secret")
    following = _Redirects().redirect_request(
        asked, BytesIO(), 302, "Found", Message(), "https://second.example/"
    )
    assert following is not None and not following.has_header("Proxy-authorization")


def test_retry_after_is_read_as_seconds_or_as_a_date() -> None:
    assert retry_after("120") == 120.0
    assert retry_after(" 3 ") == 3.0
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    assert 55 < (retry_after(soon) or 0) <= 60
    assert retry_after("Wed, 21 Oct 2015 07:28:00 GMT") == 0.0


@pytest.mark.parametrize("text", [None, "", "soon", "-5"])
def test_a_header_that_is_none_asks_for_nothing(text: str | None) -> None:
    assert retry_after(text) is None

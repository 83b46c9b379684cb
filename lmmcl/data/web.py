"""Opens addresses of the open web and nothing else: http and https, public hosts, also after a redirect."""

import ipaddress
import socket
import ssl
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http.client import HTTPConnection, HTTPResponse, HTTPSConnection
from importlib.metadata import version
from typing import IO, Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import (
    BaseHandler,
    HTTPDefaultErrorHandler,
    HTTPErrorProcessor,
    HTTPHandler,
    HTTPRedirectHandler,
    HTTPSHandler,
    OpenerDirector,
    ProxyHandler,
    Request,
    getproxies,
    proxy_bypass,
)

from typing_extensions import override

MAY_PASS = (408, 425, 429, 500, 502, 503, 504)
"""HTTP statuses after which it makes sense to ask again."""


class RefusedError(Exception):
    """An address that will not give what is wanted, however often it is asked."""


class TransientError(Exception):
    """A failure that may pass.

    Args:
        reason: what happened.
        after: seconds that the server asks to wait; None where it does not say.
    """

    def __init__(self, reason: str, after: float | None = None) -> None:
        super().__init__(reason)
        self.after = after


def open_url(url: str, timeout: float, *, allow_private: bool = False) -> Any:
    """Opens an address to read from; close it after use.

    A host's addresses are looked up once, checked, and then connected to as checked, so that no second look-up can
    answer otherwise. Behind a proxy of the environment (``https_proxy``) the proxy looks the host up; only its name
    can be checked then.

    Args:
        url: the address.
        timeout: longest silence, in seconds.
        allow_private: whether this machine and private networks may be asked.

    Returns:
        The response, with ``read`` and ``headers``.

    Raises:
        RefusedError: the address is not of the open web, or the server says that it has nothing there.
        TransientError: the server or the network fails for now.
    """
    _check_scheme(url)
    opener = OpenerDirector()
    handlers: tuple[BaseHandler, ...] = (
        ProxyHandler(),
        _PublicHTTP(allow_private),
        _PublicHTTPS(allow_private),
        _Redirects(),
        HTTPDefaultErrorHandler(),
        HTTPErrorProcessor(),
    )
    for handler in handlers:
        opener.add_handler(handler)
    agent = f"lmmcl/{version('lmmcl')} (fetches pictures of a public data set)"
    try:
        return opener.open(Request(url, headers={"User-Agent": agent, "Accept": "*/*"}), timeout=timeout)
    except HTTPError as error:
        with error:
            reason = f"HTTP {error.code} {error.reason}"
            if error.code in MAY_PASS:
                raise TransientError(reason, retry_after(error.headers.get("Retry-After"))) from None
            raise RefusedError(reason) from None
    except URLError as error:
        if isinstance(error.reason, ssl.SSLCertVerificationError):
            raise RefusedError(f"its certificate is not valid: {error.reason.verify_message}") from None
        if isinstance(error.reason, socket.gaierror) and error.reason.errno == socket.EAI_NONAME:
            raise RefusedError("there is no such host") from None
        raise TransientError(str(error.reason)) from None
    except ValueError as error:  # an address that cannot be read, such as one with a blank in its host
        raise RefusedError(f"no address: {error}") from None


def retry_after(text: str | None) -> float | None:
    """The seconds that a ``Retry-After`` header names, as a number or as a date; None where it is none."""
    if text is None:
        return None
    if text.strip().isdecimal():
        return float(text)
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())


def _check_scheme(url: str) -> None:
    try:
        parts = urlsplit(url)
        named = parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        named = False
    if not named:
        raise RefusedError(f"only http and https addresses are fetched, got {url[:80]!r}")


def _connect(host: str, port: int, timeout: Any, allow_private: bool) -> socket.socket:
    error: OSError = OSError(f"{host} has no address")
    for family, kind, protocol, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        if not allow_private and not _is_public(str(address[0])):
            raise RefusedError(f"{host} is an address of this machine or of a private network")
        connection = socket.socket(family, kind, protocol)
        try:
            if isinstance(timeout, int | float):
                connection.settimeout(timeout)
            connection.connect(address)
        except OSError as failure:
            connection.close()
            error = failure
        else:
            return connection
    raise error


def _is_public(address: str) -> bool:
    parsed = ipaddress.ip_address(address.partition("%")[0])
    mapped = getattr(parsed, "ipv4_mapped", None)
    return (mapped or parsed).is_global and not (mapped or parsed).is_multicast


def _refuse_named_private(host: str) -> None:
    """Behind a proxy: refuses hosts whose name already says that they are private."""
    try:
        public = _is_public(host.strip("[]"))
    except ValueError:
        public = "." in host and not host.endswith((".localhost", ".local", ".internal"))
    if not public:
        raise RefusedError(f"{host} is an address of this machine or of a private network")


def _behind_proxy(request: Request, allow_private: bool) -> bool:
    """Whether a proxy of the environment is asked for an address."""
    parts = urlsplit(request.full_url)
    host = parts.hostname or ""
    if parts.scheme not in getproxies() or proxy_bypass(host):
        return False
    if not allow_private:
        _refuse_named_private(host)
    return True


class _Public(HTTPConnection):
    """Connects to public addresses only, unless told otherwise."""

    def __init__(self, *args: Any, allow_private: bool = False, **options: Any) -> None:
        super().__init__(*args, **options)
        self.allow_private = allow_private

    @override
    def connect(self) -> None:
        self.sock = _connect(self.host, self.port, self.timeout, self.allow_private)


class _PublicTLS(HTTPSConnection, _Public):
    """The same, encrypted: its ``connect`` calls the one above and then greets the server by its name."""

    def __init__(self, *args: Any, allow_private: bool = False, **options: Any) -> None:
        super().__init__(*args, **options)
        self.allow_private = allow_private


class _PublicHTTP(HTTPHandler):
    def __init__(self, allow_private: bool) -> None:
        super().__init__()
        self._allow_private = allow_private

    @override
    def http_open(self, req: Request) -> HTTPResponse:
        if _behind_proxy(req, self._allow_private):
            return super().http_open(req)
        return self.do_open(_Public, req, allow_private=self._allow_private)


class _PublicHTTPS(HTTPSHandler):
    def __init__(self, allow_private: bool) -> None:
        super().__init__()
        self._allow_private = allow_private

    @override
    def https_open(self, req: Request) -> HTTPResponse:
        if _behind_proxy(req, self._allow_private):
            return super().https_open(req)
        return self.do_open(_PublicTLS, req, allow_private=self._allow_private)


class _Redirects(HTTPRedirectHandler):
    @override
    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> Request | None:
        _check_scheme(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)

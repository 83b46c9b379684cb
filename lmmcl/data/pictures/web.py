"""Opens addresses of the open web and nothing else: http and https, public hosts, also after a redirect."""

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
)

from typing_extensions import override

from lmmcl.data.pictures.addresses import RefusedError, refuse_private
from lmmcl.data.pictures.deadline import Deadline
from lmmcl.redaction import redacted

MAY_PASS = (408, 425, 429, 500, 502, 503, 504)
"""HTTP statuses after which it makes sense to ask again."""


class TransientError(Exception):
    """A failure that may pass.

    Args:
        reason: what happened.
        after: seconds that the server asks to wait; None where it does not say.
    """

    def __init__(self, reason: str, after: float | None = None) -> None:
        super().__init__(reason)
        self.after = after


def open_url(
    url: str, timeout: float, deadline: Deadline | None = None, *, allow_private: bool = False
) -> Any:
    """Opens an address to read from; close it after use.

    A host's addresses are looked up once, checked, and then connected to as checked, so that no second look-up can
    answer otherwise. Behind a proxy of the environment (``https_proxy``) the proxy looks the host up; only its name
    can be checked then.

    Args:
        url: the address.
        timeout: longest silence, in seconds.
        deadline: of all together: every connection, redirect and header, and what is read of the response; entered.
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
        _PublicHTTP(allow_private, deadline),
        _PublicHTTPS(allow_private, deadline),
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
        if deadline is not None:
            deadline.check()
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
        user = "@" in parts.netloc
    except ValueError:
        named = user = False
    if not named:
        raise RefusedError(f"only http and https addresses are fetched, got {redacted(url)[:80]!r}")
    if user:
        raise RefusedError(f"an address must hold no user and no password, got {redacted(url)[:80]!r}")


def _connect(
    host: str, port: int, timeout: Any, allow_private: bool, deadline: Deadline | None
) -> socket.socket:
    error: OSError = OSError(f"{host} has no address")
    for family, kind, protocol, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        if not allow_private:
            refuse_private(host, str(address[0]))
        connection = socket.socket(family, kind, protocol)
        try:
            if isinstance(timeout, int | float):
                connection.settimeout(timeout if deadline is None else min(timeout, deadline.left))
            connection.connect(address)
            if isinstance(timeout, int | float):
                connection.settimeout(timeout)
        except OSError as failure:
            connection.close()
            error = failure
        else:
            if deadline is not None:
                deadline.watch(connection)
            return connection
    raise error


def _behind_proxy(request: Request, allow_private: bool) -> bool:
    """Whether a request goes to a proxy of the environment, which may be private; checks the name of the host behind.

    As urllib has decided by now, not asked of the environment again: it might answer otherwise, of a host with a port
    for example, and the request would go unchecked to the host itself.
    """
    if not (request.has_proxy() or getattr(request, "_tunnel_host", None)):
        return False
    if not allow_private:
        refuse_private(urlsplit(request.full_url).hostname or "")
    return True


class _Public(HTTPConnection):
    """Connects to public addresses only, unless told otherwise."""

    def __init__(
        self, *args: Any, allow_private: bool = False, deadline: Deadline | None = None, **options: Any
    ) -> None:
        super().__init__(*args, **options)
        self.allow_private, self.deadline = allow_private, deadline

    @override
    def connect(self) -> None:
        self.sock = _connect(self.host, self.port, self.timeout, self.allow_private, self.deadline)
        if getattr(self, "_tunnel_host", None):  # TLS through a proxy, as in the class above
            getattr(self, "_tunnel")()  # noqa: B009 - its types do not know it


class _PublicTLS(HTTPSConnection, _Public):
    """The same, encrypted: its ``connect`` calls the one above and then greets the server by its name."""

    def __init__(
        self, *args: Any, allow_private: bool = False, deadline: Deadline | None = None, **options: Any
    ) -> None:
        super().__init__(*args, **options)
        self.allow_private, self.deadline = allow_private, deadline


class _PublicHTTP(HTTPHandler):
    def __init__(self, allow_private: bool, deadline: Deadline | None) -> None:
        super().__init__()
        self._allow_private, self._deadline = allow_private, deadline

    @override
    def http_open(self, req: Request) -> HTTPResponse:
        allowed = _behind_proxy(req, self._allow_private) or self._allow_private
        return self.do_open(_Public, req, allow_private=allowed, deadline=self._deadline)


class _PublicHTTPS(HTTPSHandler):
    def __init__(self, allow_private: bool, deadline: Deadline | None) -> None:
        super().__init__()
        self._allow_private, self._deadline = allow_private, deadline

    @override
    def https_open(self, req: Request) -> HTTPResponse:
        allowed = _behind_proxy(req, self._allow_private) or self._allow_private
        return self.do_open(_PublicTLS, req, allow_private=allowed, deadline=self._deadline)


class _Redirects(HTTPRedirectHandler):
    @override
    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> Request | None:
        fp.close()  # urllib would read what came with the redirect, to its end
        _check_scheme(newurl)
        following = super().redirect_request(req, fp, code, msg, headers, newurl)
        if following is not None:
            # Copied from the request before, for a host that is perhaps asked without a proxy; a proxy gets it anew.
            following.remove_header("Proxy-authorization")
        return following

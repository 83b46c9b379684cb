"""Which hosts are of the open web: not this machine, not a private network, not the metadata service of a cloud."""

import ipaddress
import re
import socket
from urllib.parse import unquote

_UNICAST = ipaddress.ip_network("2000::/3")
"""The only part of IPv6 from which public addresses are given out."""
_NOT_ROUTED = (ipaddress.ip_network("3fff::/20"),)
"""Documentation (RFC 9637), which Python 3.11 does not know yet."""
_OF_NETWORKS = tuple(map(ipaddress.IPv4Network, ("192.0.0.0/24", "192.88.99.0/24", "168.63.129.16/32")))
"""Special addresses that Python counts as public: of protocols (one cloud's metadata), of relays, of another cloud."""
_TRANSLATED = ipaddress.ip_network("64:ff9b::/96")
"""IPv4 as a network without it writes it (NAT64, RFC 6052): the last 32 bits are the address."""
_PRIVATE_NAMES = (
    *("localhost", "local", "internal", "intranet", "private", "lan", "home", "corp", "arpa", "localdomain"),
)
"""Last parts of names that no public host has."""
_HOST = re.compile(r"[a-z0-9._-]+")


class RefusedError(Exception):
    """An address that will not give what is wanted, however often it is asked."""


def is_public(address: str) -> bool:
    """Whether an IP address is of the open web, also one that stands for another (mapped, 6to4, NAT64)."""
    parsed = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(parsed, ipaddress.IPv4Address):
        return _is_public_v4(parsed)
    inner = parsed.ipv4_mapped or parsed.sixtofour
    if parsed in _TRANSLATED:
        inner = ipaddress.IPv4Address(int(parsed) & 0xFFFFFFFF)
    if inner is not None:
        return _is_public_v4(inner)
    return parsed.is_global and parsed in _UNICAST and not any(parsed in network for network in _NOT_ROUTED)


def _is_public_v4(address: ipaddress.IPv4Address) -> bool:
    return (
        address.is_global
        and not address.is_multicast
        and not any(address in network for network in _OF_NETWORKS)
    )


def refuse_private(host: str, address: str | None = None) -> None:
    """Refuses a host by the address that it has, or where that is not known (behind a proxy) by its name alone.

    Raises:
        RefusedError: it is private.
    """
    public = is_public(address) if address is not None else _named_public(host)
    if not public:
        raise RefusedError(f"{host} is an address of this machine or of a private network")


def _named_public(host: str) -> bool:
    try:  # as it is sent: urllib takes percent signs out of a host, and other alphabets' letters and dots become Latin
        name = unquote(host).encode("idna").decode().strip("[]").rstrip(".").lower()
    except UnicodeError:
        return False
    try:
        return is_public(name)
    except ValueError:
        pass
    if not _HOST.fullmatch(name):  # a line break would say more than a host to a proxy
        return False
    last = name.rpartition(".")[2]
    if last.isdigit() or last.startswith(
        "0x"
    ):  # an address in another way of writing: 127.1, 0x7f.1, 2130706433
        try:
            return is_public(socket.inet_ntoa(socket.inet_aton(name)))
        except OSError:
            return False
    return "." in name and last not in _PRIVATE_NAMES

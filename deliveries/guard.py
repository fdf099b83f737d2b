"""The guard against requests to inside: each address is checked, and that very one connected to.

A name is resolved once for each connection. What the check saw is what is connected to, so that a
name that answers otherwise the second time (DNS rebinding) gains nothing.
"""

import asyncio
import socket
from collections.abc import Iterator
from functools import cache
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)

from django.conf import settings

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

INSIDE = [
    ip_network(text)
    for text in (
        "168.63.129.16/32",  # Azure's metadata, by a public address
        "192.0.0.0/24",  # a cloud's metadata among them; Python before 3.11.10 takes it for public
        "192.88.99.0/24",  # relays of 6to4
        "64:ff9b:1::/48",  # NAT64 of a site's own
        "fec0::/10",  # site-local, of old
    )
]
NAT64 = ip_network("64:ff9b::/96")
COMPATIBLE = ip_network("::/96")  # IPv4-compatible, of old


class Forbidden(Exception):
    """The address lies inside; the message says how to allow it."""


@cache
def networks(texts: tuple[str, ...]) -> list[Network]:
    return [ip_network(text.strip(), strict=False) for text in texts]


def check(address: Address) -> None:
    """Raise `Forbidden` unless the address is public, or WEBHOOK_ALLOWED_NETWORKS has it."""
    allowed = networks(tuple(settings.WEBHOOK_ALLOWED_NETWORKS))
    if any(address in network for network in allowed):
        return
    for meant in meant_by(address):
        if not is_public(meant):
            raise Forbidden(
                f"{address} is not a public address; WEBHOOK_ALLOWED_NETWORKS can allow it"
            )


def check_literal(host: str) -> None:
    """Raise `Forbidden` where the host is such an address itself; a name says nothing yet."""
    try:
        address = ip_address(host)
    except ValueError:
        return
    check(address)


def is_public(address: Address) -> bool:
    if any(address in network for network in INSIDE):
        return False
    wraps = isinstance(address, IPv6Address) and (address.ipv4_mapped or address in COMPATIBLE)
    if wraps:
        return False  # no public host has such an address: somebody is hiding something
    return address.is_global and not (
        address.is_multicast
        or address.is_reserved
        or address.is_loopback
        or address.is_link_local
        or address.is_unspecified
    )


def meant_by(address: Address) -> Iterator[Address]:
    """Itself, and the IPv4 addresses to which a gateway would go on."""
    if isinstance(address, IPv6Address) and address in NAT64:
        yield IPv4Address(int(address) & 0xFFFFFFFF)
        return
    yield address
    if isinstance(address, IPv6Address):
        if address.sixtofour:
            yield address.sixtofour
        yield from address.teredo or ()


async def resolve(host: str, port: int) -> list[str]:
    """Every address of the host; `Forbidden` when one of them is, whatever the others are."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    for address in addresses:
        check(ip_address(address))
    return addresses


async def connect(host: str, port: int) -> socket.socket:
    """A connection to the first of the addresses that takes one. Raises `Forbidden`, `OSError`."""
    *others, last = await resolve(host, port)
    for address in others:
        try:
            return await _connect(address, port)
        except OSError:
            continue
    return await _connect(last, port)


async def _connect(address: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    connection = socket.socket(family, socket.SOCK_STREAM)
    connection.settimeout(0)
    try:
        await asyncio.get_running_loop().sock_connect(connection, (address, port))
    except BaseException:  # a time-out is a cancellation
        connection.close()
        raise
    return connection

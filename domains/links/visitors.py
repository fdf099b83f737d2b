"""What is known of who clicks: as little as statistics need."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, lru_cache
from ipaddress import ip_address, ip_network
from typing import Any
from urllib.parse import urlsplit

import crawleruseragents
import ua_parser
from django.conf import settings
from geoip2.database import Reader
from geoip2.errors import AddressNotFoundError
from maxminddb import InvalidDatabaseError

from domains.links.models import Device

logger = logging.getLogger(__name__)

BROWSERS = (  # the first that begins a name: Chrome Mobile WebView is Chrome, too
    "Chrome",
    "Chromium",
    "Edge",
    "Firefox",
    "Opera",
    "Safari",
    "Samsung Internet",
    "DuckDuckGo",
    "Vivaldi",
    "Brave",
    "UC Browser",
    "Yandex Browser",
    "IE",
)
OTHER = "Other"
DESKTOPS = {"Windows", "Mac OS X", "Linux", "Ubuntu", "Fedora", "Debian", "Chrome OS", "FreeBSD"}
TABLETS = ("iPad", "Kindle", "Tablet")


@dataclass(frozen=True, slots=True)
class Client:
    device: str
    browser: str
    is_bot: bool


@lru_cache(maxsize=4_096)  # a millisecond each, and people's browsers are few
def client_of(user_agent: str) -> Client:
    """A program that does not say what it is, is none of a person."""
    if not user_agent or crawleruseragents.is_crawler(user_agent):
        return Client(Device.OTHER, "", is_bot=True)
    parsed = ua_parser.parse(user_agent).with_defaults()
    return Client(
        _device(parsed.os.family, parsed.device.family, user_agent),
        _browser(parsed.user_agent.family),
        is_bot=parsed.device.family == "Spider",
    )


def _browser(family: str) -> str:
    """One of few: parsers also take names out of the header, of which there is no end."""
    plain = family.removeprefix("Mobile ")
    return next((name for name in BROWSERS if plain.startswith(name)), OTHER)


def _device(system: str, device: str, user_agent: str) -> str:
    is_phone = "Mobi" in user_agent
    if device.startswith(TABLETS) or (system == "Android" and not is_phone):
        return Device.TABLET
    if is_phone or system in {"iOS", "Android"}:
        return Device.MOBILE
    return Device.DESKTOP if system in DESKTOPS else Device.OTHER


def anonymise(address: str) -> str | None:
    """Of IPv4 without the last byte, of IPv6 the first 48 bits; None for what is no address."""
    try:
        ip = ip_address(address)
    except ValueError:
        return None
    ip = getattr(ip, "ipv4_mapped", None) or ip
    network = ip_network((ip, 24 if ip.version == 4 else 48), strict=False)
    return str(network.network_address)


def country_of(address: str) -> str:
    """Two letters, or empty: unknown."""
    look_up = _countries(settings.GEOIP_PATH)[0]
    try:
        return look_up(address) if look_up else ""
    except (AddressNotFoundError, ValueError):
        return ""


def problem_of_countries() -> str:
    """Why GEOIP_PATH cannot be used; empty when nothing is wrong."""
    return _countries(settings.GEOIP_PATH)[1]


@cache
def _countries(path: str) -> tuple[Callable[[str], str] | None, str]:
    if not path:
        return None, ""
    try:
        reader: Any = Reader(path)
        ask = reader.city if "City" in reader.metadata().database_type else reader.country
        ask_any(ask)
    except (OSError, InvalidDatabaseError, TypeError) as error:
        logger.warning("Countries of clicks stay unknown: %s", error)
        return None, str(error)
    return lambda address: ask(address).country.iso_code or "", ""


def ask_any(ask: Callable[[str], object]) -> None:
    """Raise `TypeError` when it is a database of something else."""
    try:
        ask("192.0.2.1")
    except AddressNotFoundError:
        pass


def referrer_host(referrer: str) -> str:
    """Where the page was on which the link stood; without what else it says of its reader."""
    try:
        host = urlsplit(referrer).hostname or ""
    except ValueError:
        return ""
    is_name = all(c.isalnum() or c in ".-:" for c in host) and len(host) <= 253
    return host if is_name else ""

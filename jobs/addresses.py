"""What people and programs write as the address of something on the web."""

import httpx
from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _

LAST_PORT = 65_535
LONGEST_LABEL = 63  # between two dots of a name, RFC 1035


def checked(url: str) -> httpx.URL:
    """Raise `ValidationError` for what is no http(s) address, or has a password in it."""
    try:
        parsed = httpx.URL(url)
        host = parsed.host  # which is decoded here, where it is international
    except (httpx.InvalidURL, UnicodeError) as error:
        raise ValidationError(_("This is no address: %(why)s.") % {"why": error}) from error
    if parsed.scheme not in {"http", "https"} or not host:
        raise ValidationError(_("Write an address that begins with https:// or http://."))
    if any(not 0 < len(label) <= LONGEST_LABEL for label in host.removesuffix(".").split(".")):
        raise ValidationError(_("%(host)s is no name of a host.") % {"host": host})
    if parsed.userinfo:
        raise ValidationError(_("Leave the name and password out of the address."))
    if (parsed.port or 0) > LAST_PORT:
        raise ValidationError(_("The port is at most %(last)s.") % {"last": LAST_PORT})
    return parsed

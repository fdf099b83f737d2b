"""What people and programs write as the address of something on the web."""

import httpx
from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _

LAST_PORT = 65_535


def checked(url: str) -> httpx.URL:
    """Raise `ValidationError` for what is no http(s) address, or has a password in it."""
    try:
        parsed = httpx.URL(url)
        host = parsed.host  # which is decoded here, where it is international
    except (httpx.InvalidURL, UnicodeError) as error:
        raise ValidationError(_("This is no address: %(why)s.") % {"why": error}) from error
    if parsed.scheme not in {"http", "https"} or not host:
        raise ValidationError(_("Write an address that begins with https:// or http://."))
    if parsed.userinfo:
        raise ValidationError(_("Leave the name and password out of the address."))
    if (parsed.port or 0) > LAST_PORT:
        raise ValidationError(_("The port is at most %(last)s.") % {"last": LAST_PORT})
    return parsed

"""A link as an image that phones read."""

import io
from typing import Any

import segno

from domains.links.models import Link

TYPES = {"svg": "image/svg+xml", "png": "image/png"}


def qr_code(link: Link, kind: str = "svg", scale: int = 8) -> bytes:
    """An image of its short address; `scale` is pixels a module. Dark on white on any page."""
    image = io.BytesIO()
    options: dict[str, Any] = {"kind": kind, "scale": scale, "light": "#fff"}
    if kind == "svg":
        options["omitsize"] = True  # as large as the page that shows it wants
    segno.make(link.short_url, error="m", micro=False).save(image, **options)
    return image.getvalue()

"""Security advisories as broadcasts: `--mapping broadcasts.advisories.entry`.

A line has `id`, `package` (a list), `withdrawn` (or null), `aliases`, `fixed_in`, `severity` (CVSS
vectors) and `details`, as the PyPA Advisory Database has them.
"""

import re
from typing import Any

from cvss.parser import parse_cvss_from_text
from django.utils.text import Truncator

from broadcasts.importing import Entry
from broadcasts.models import Audience
from outbox.models import Priority

# The ratings of the CVSS specification; critical is what must not wait for quiet hours to end.
RATINGS = [(9.0, Priority.URGENT), (7.0, Priority.HIGH), (4.0, Priority.NORMAL)]


def entry(advisory: dict[str, Any]) -> Entry:
    """Sent now to who uses the packages.

    One that was withdrawn is imported as cancelled: nobody must be alarmed by it, but who looks
    for it in the console finds it, and why it was not sent.
    """
    products = {slug_of(package): package for package in advisory["package"]}
    names = ", ".join(products.values())
    withdrawn = advisory.get("withdrawn")
    return Entry(
        fields={
            "external_id": advisory["id"],
            "title": Truncator(f"{advisory['id']}: {names}").chars(200),
            "content": advisory["details"].strip() or _sentence(names, advisory["fixed_in"]),
            "category": "security",
            "priority": priority_of(advisory["severity"]).name,
            "reference": Truncator(", ".join(advisory["aliases"])).chars(500),
            "audience": Audience.PRODUCT,
            "targets": list(products),
        },
        cancelled=f"Withdrawn on {withdrawn[:10]}." if withdrawn else "",
        products=products,
    )


def slug_of(package: str) -> str:
    """The normalised name of PEP 503, which is a slug: `jw.util` and `jw-util` are one package."""
    return re.sub(r"[-_.]+", "-", package).strip("-").lower()


def priority_of(vectors: list[str]) -> Priority:
    """By the highest base score; NORMAL when there is none."""
    scores = [float(found.base_score) for found in parse_cvss_from_text(" ".join(vectors))]
    if not scores:
        return Priority.NORMAL
    return next((name for least, name in RATINGS if max(scores) >= least), Priority.LOW)


def _sentence(names: str, fixed_in: list[str]) -> str:
    if fixed_in:
        return f"{names} has a vulnerability, fixed in {', '.join(fixed_in)}. Please upgrade."
    return f"{names} has a vulnerability, and there is no version yet that fixes it."

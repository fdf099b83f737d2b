from typing import Any

from django.core.checks import CheckMessage, Warning, register  # noqa: A004

from domains.links.visitors import problem_of_countries


@register
def check_geoip(**_: Any) -> list[CheckMessage]:
    if not (problem := problem_of_countries()):
        return []
    return [
        Warning(
            f"GEOIP_PATH names no database of countries: {problem}",
            hint="Name a .mmdb file (GeoLite2 Country or City), or leave it empty.",
            id="links.W001",
        )
    ]

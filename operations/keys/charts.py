"""Usage as pictures: bars of a day each, drawn here, so that a list needs no script."""

from collections.abc import Sequence

from django.utils.formats import date_format
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from jobs.pages import digits
from operations.keys.models import ApiKeyUsage

CLASSES = {"succeeded": "good", "failed_4xx": "warn", "failed_5xx": "bad"}


def sparkline(days: Sequence[ApiKeyUsage]) -> SafeString:
    """All requests of a day in one bar."""
    total = sum(day.total for day in days)
    if not total:
        return SafeString("–")
    most = max(day.total for day in days)
    bars = [
        (n * 4, 24 - round(24 * day.total / most, 2), round(24 * day.total / most, 2))
        for n, day in enumerate(days)
    ]
    return format_html(
        '<svg class="console-spark" viewBox="0 0 {} 24" role="img" aria-label="{}">{}</svg>',
        len(days) * 4,
        _("%(count)s in %(days)s days, at most %(most)s a day")
        % {"count": digits(total), "days": len(days), "most": digits(most)},
        format_html_join("", '<rect x="{}" y="{}" width="3" height="{}"></rect>', bars),
    )


def chart(days: Sequence[ApiKeyUsage]) -> SafeString:
    """How the requests of each day were answered, one upon the other."""
    most = max((day.total for day in days), default=0) or 1
    bars = []
    for n, day in enumerate(days):
        top = 64.0
        title = _title(day)
        for outcome, look in CLASSES.items():
            height = 64 * getattr(day, outcome) / most
            top -= height
            if height:
                bars.append((look, n * 10, round(top, 2), round(height, 2), title))
    return format_html(
        '<svg class="console-chart console-usage" viewBox="0 0 {} 64" preserveAspectRatio="none"'
        ' aria-hidden="true">{}</svg>',
        len(days) * 10,
        format_html_join(
            "",
            '<rect class="{}" x="{}" y="{}" width="9" height="{}"><title>{}</title></rect>',
            bars,
        ),
    )


def _title(day: ApiKeyUsage) -> str:
    counts = f"{digits(day.succeeded)} / {digits(day.failed_4xx)} / {digits(day.failed_5xx)}"
    return f"{date_format(day.day, 'SHORT_DATE_FORMAT')}: {counts}"

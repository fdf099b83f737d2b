import secrets
from datetime import datetime
from typing import Any
from urllib.parse import quote

import httpx
from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import RegexValidator
from django.db import models
from django.db.models.functions import Now
from django.http.request import validate_host
from django.utils.encoding import iri_to_uri
from django.utils.translation import gettext_lazy as _

from jobs import addresses

ALPHABET = "23456789abcdefghjkmnpqrstuvwxyz"  # without what looks like another: 0 o, 1 l i
CODE_LENGTH = 6
LONGEST_URL = 2_000  # as it is sent: what is longer some servers refuse
PATH = "/s/"
TAKEN = _("Another link has this name: choose another.")


def new_code() -> str:
    return "".join(secrets.choice(ALPHABET) for _ in range(CODE_LENGTH))


def check_url(url: str) -> None:
    """Raise `ValidationError` for what no short link may lead to."""
    if not url.isprintable() or " " in url:
        raise ValidationError(_("Write the address without blanks and line breaks."))
    addresses.checked(url)
    if len(iri_to_uri(url)) > LONGEST_URL:
        raise ValidationError(_("At most %(most)s characters, please.") % {"most": LONGEST_URL})
    if own_name(url):
        raise ValidationError(_("This is a short link already: name what it leads to."))


def own_name(url: str) -> str:
    """The code or alias, where it is an address of a short link here; else empty."""
    try:
        parsed, site = httpx.URL(url), httpx.URL(settings.SITE_URL)
        host = parsed.host.lower().removesuffix(".")
    except (httpx.InvalidURL, UnicodeError):
        return ""
    hosts = [host.strip("[]").lower() for host in settings.ALLOWED_HOSTS if host != "*"]
    path = parsed.path.lower()
    is_own = validate_host(host, [site.host.lower(), *hosts]) and path.startswith(PATH)
    return path.removeprefix(PATH) if is_own else ""


class State(models.TextChoices):
    ACTIVE = "ACTIVE", _("Active")
    EXPIRED = "EXPIRED", _("Expired")
    INACTIVE = "INACTIVE", _("Inactive")


class LinkQuerySet(models.QuerySet["Link"]):
    def get_by_natural_key(self, short_code: str) -> "Link":
        return self.get(short_code=short_code)

    def open(self, at: datetime) -> "LinkQuerySet":
        return self.filter(models.Q(expires_at=None) | models.Q(expires_at__gt=at), is_active=True)

    def expired(self, at: datetime | Now) -> "LinkQuerySet":
        """Past their expiry, whether the job has seen it or not."""
        return self.filter(expires_at__lte=at)

    def overdue(self, at: datetime | Now) -> "LinkQuerySet":
        """Past their expiry, and still marked as active: the job's work."""
        return self.expired(at).filter(is_active=True)

    def in_state(self, state: str, at: datetime) -> "LinkQuerySet":
        if state == State.ACTIVE:
            return self.open(at)
        if state == State.EXPIRED:
            return self.expired(at)
        return self.filter(models.Q(expires_at=None) | models.Q(expires_at__gt=at), is_active=False)


class Link(models.Model):
    """A short address that leads to a long one."""

    original_url = models.CharField(
        _("leads to"),
        max_length=LONGEST_URL,
        validators=[check_url],
        help_text=_("The whole address, with https:// or http://."),
    )
    short_code = models.CharField(
        _("short code"), max_length=10, unique=True, default=new_code, editable=False
    )
    custom_alias = models.CharField(
        _("alias"),
        max_length=50,
        null=True,  # so that many may have none
        blank=True,
        unique=True,
        validators=[
            RegexValidator(
                r"\A[A-Za-z0-9][A-Za-z0-9_-]*\Z",
                _("Letters (a to z), digits, - and _ only, a letter or a digit first."),
            )
        ],
        help_text=_("A name of your own after /s/, such as summer-party; case does not matter."),
        error_messages={"unique": TAKEN},
    )
    title = models.CharField(
        _("title"),
        max_length=200,
        blank=True,
        help_text=_("To find it again; who clicks does not see it."),
    )
    description = models.TextField(_("description"), blank=True)
    expires_at = models.DateTimeField(
        _("expires at"), null=True, blank=True, help_text=_("Empty: never.")
    )
    is_active = models.BooleanField(
        _("active"), default=True, help_text=_("Off: it leads nowhere, until it is on again.")
    )
    reference = models.CharField(
        _("reference"),
        max_length=100,
        blank=True,
        help_text=_("What it was made for, such as broadcast-7."),
    )
    click_count = models.PositiveBigIntegerField(_("clicks"), default=0, editable=False)
    bot_count = models.PositiveBigIntegerField(_("visits of bots"), default=0, editable=False)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        models.SET_NULL,
        verbose_name=_("made by"),
        related_name="+",
        null=True,
        blank=True,
        editable=False,
    )
    created_at = models.DateTimeField(_("made"), db_default=Now(), editable=False)

    objects = LinkQuerySet.as_manager()

    class Meta:
        verbose_name = _("link")
        verbose_name_plural = _("links")
        ordering = ["-id"]
        indexes = [
            models.Index(
                fields=["expires_at", "id"],
                name="links_overdue",
                condition=models.Q(is_active=True, expires_at__isnull=False),
            ),
            models.Index(fields=["reference"], name="links_reference"),
        ]

    def __str__(self) -> str:
        return self.title or self.name

    def natural_key(self) -> tuple[str]:
        return (self.short_code,)

    def clean(self) -> None:
        self.custom_alias = (self.custom_alias or "").lower() or None
        taken = Name.objects.filter(name=self.custom_alias).exclude(link=self.pk)
        if self.custom_alias and taken.exists():
            raise ValidationError({"custom_alias": TAKEN})

    @property
    def name(self) -> str:
        """What stands after /s/: the alias, if it has one. The code leads there, too."""
        return self.custom_alias or self.short_code

    @property
    def names(self) -> list[str]:
        return [self.short_code, *filter(None, [self.custom_alias])]

    @property
    def short_url(self) -> str:
        return f"{settings.SITE_URL}{PATH}{quote(self.name)}"

    def state(self, at: datetime) -> State:
        """As the table's `in_state`."""
        if self.expires_at and self.expires_at <= at:
            return State.EXPIRED
        return State.ACTIVE if self.is_active else State.INACTIVE


class Name(models.Model):
    """A code or an alias: the one namespace of both, so that neither can be taken twice."""

    name = models.CharField(max_length=50, primary_key=True)
    link = models.ForeignKey(Link, models.CASCADE, related_name="name_set")

    class Meta:
        verbose_name = _("name")
        verbose_name_plural = _("names")

    def __str__(self) -> str:
        return self.name


class Device(models.TextChoices):
    DESKTOP = "desktop", _("Desktop")
    MOBILE = "mobile", _("Mobile")
    TABLET = "tablet", _("Tablet")
    OTHER = "other", _("Other")


class Click(models.Model):
    """One visit, kept for LINK_CLICK_RETENTION_DAYS; who it was, it does not know."""

    link = models.ForeignKey(Link, models.CASCADE, related_name="clicks", db_index=False)
    clicked_at = models.DateTimeField(_("clicked"))
    address = models.GenericIPAddressField(_("network"), null=True)
    """Of IPv4 the first three bytes, of IPv6 the first 48 bits."""
    country = models.CharField(_("country"), max_length=2, blank=True)
    device = models.CharField(_("device"), max_length=10, choices=Device.choices)
    browser = models.CharField(_("browser"), max_length=50, blank=True)
    referrer = models.CharField(_("came from"), max_length=253, blank=True)
    is_bot = models.BooleanField(_("bot"))

    class Meta:
        verbose_name = _("click")
        verbose_name_plural = _("clicks")
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["link", "-id"], name="links_clicks_of_link"),
            models.Index(fields=["clicked_at"], name="links_clicked"),
        ]

    def __str__(self) -> str:
        return f"{self.clicked_at:%Y-%m-%d %H:%M:%S}"


class Dimension(models.IntegerChoices):
    CLICKS = 0, _("Clicks")
    BOTS = 1, _("Visits of bots")
    COUNTRY = 2, _("Countries")
    DEVICE = 3, _("Devices")
    BROWSER = 4, _("Browsers")
    REFERRER = 5, _("Came from")


class DailyCount(models.Model):
    """Clicks of a link on one day, by one dimension: what statistics are made of, for ever."""

    link = models.ForeignKey(Link, models.CASCADE, related_name="daily_counts", db_index=False)
    day = models.DateField(_("day"))
    """In TIME_ZONE."""
    dimension = models.PositiveSmallIntegerField(_("dimension"), choices=Dimension.choices)
    value = models.CharField(_("value"), max_length=253, blank=True)
    """Empty: unknown; of CLICKS and BOTS always."""
    count = models.PositiveBigIntegerField(_("count"))

    class Meta:
        verbose_name = _("daily count")
        verbose_name_plural = _("daily counts")
        constraints = [
            models.UniqueConstraint(
                fields=["link", "dimension", "day", "value"], name="links_one_count"
            )
        ]

    def __str__(self) -> str:
        return f"{self.day} {self.get_dimension_display()} {self.value}"


class Reader(models.Model):
    """Somebody who was signed in here when they clicked."""

    link = models.ForeignKey(Link, models.CASCADE, related_name="readers", db_index=False)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="+")
    clicks = models.PositiveIntegerField(_("clicks"))
    first_at = models.DateTimeField(_("first click"))
    last_at = models.DateTimeField(_("last click"))

    class Meta:
        verbose_name = _("reader")
        verbose_name_plural = _("readers")
        ordering = ["first_at", "id"]
        constraints = [models.UniqueConstraint(fields=["link", "user"], name="links_one_reader")]

    def __str__(self) -> str:
        return str(self.user)


def facts(link: Link) -> dict[str, Any]:
    """What an event tells of it."""
    return {
        "link_id": link.pk,
        "short_code": link.short_code,
        "expires_at": link.expires_at and link.expires_at.isoformat(),
    }

"""Characters and guilds, what Battle.net says of them, and how asking it went."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any, ClassVar

from django.core.exceptions import ValidationError
from django.db import models
from django.db.models.functions import Now
from django.utils import timezone
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from domains.warcraft.names import name_slug, realm_slug

UNSAFE = frozenset('/\\?#%&<>"\n\r\t\0')


class Region(models.TextChoices):
    US = "us", _("Americas")
    EU = "eu", _("Europe")
    KR = "kr", _("Korea")
    TW = "tw", _("Taiwan")
    CN = "cn", _("China")


class Status(models.TextChoices):
    NEW = "NEW", _("New")  # not asked for yet
    OK = "OK", _("In step")
    FAILING = "FAILING", _("Failing")
    GONE = "GONE", _("Gone")  # Battle.net knows no such; asked for seldom


def check_name(name: str) -> None:
    """Raise `ValidationError` for what cannot stand in an address of Battle.net."""
    if wrong := UNSAFE & set(name):
        raise ValidationError(
            _("Write it as the game shows it, without %(wrong)s."),
            params={"wrong": " ".join(sorted(wrong))},
        )
    if not name_slug(name):
        raise ValidationError(_("Write it as the game shows it."))


class Faction(models.Model):
    """Made when somebody of it is first seen, as races and classes are."""

    key = models.CharField(_("key"), max_length=20, primary_key=True)
    name = models.CharField(_("name"), max_length=100, blank=True)

    class Meta:
        verbose_name = _("faction")
        verbose_name_plural = _("factions")
        ordering = ["key"]

    def __str__(self) -> str:
        return self.name or self.key


class Race(models.Model):
    id = models.PositiveIntegerField(_("id"), primary_key=True)
    """Battle.net's own."""
    name = models.CharField(_("name"), max_length=100, blank=True)

    class Meta:
        verbose_name = _("race")
        verbose_name_plural = _("races")
        ordering = ["name", "id"]

    def __str__(self) -> str:
        return self.name or f"#{self.pk}"


class PlayableClass(models.Model):
    id = models.PositiveIntegerField(_("id"), primary_key=True)
    """Battle.net's own."""
    name = models.CharField(_("name"), max_length=100, blank=True)

    class Meta:
        verbose_name = _("class")
        verbose_name_plural = _("classes")
        ordering = ["name", "id"]

    def __str__(self) -> str:
        return self.name or f"#{self.pk}"


class TrackedQuerySet(models.QuerySet[Any]):
    def asked(self) -> "TrackedQuerySet":
        """Somebody waits for them."""
        return self.filter(is_asked=True)

    def due(self, at: datetime) -> "TrackedQuerySet":
        return self.filter(is_asked=False, next_try_at__lte=at)

    def waiting(self, at: datetime | Now) -> "TrackedQuerySet":
        return self.filter(models.Q(is_asked=True) | models.Q(next_try_at__lte=at))

    def get_by_natural_key(self, region: str, realm: str, name: str) -> Any:
        return self.get(region=region, realm_slug=realm, name_slug=name)


class Tracked(models.Model):
    """What is asked for at Battle.net, by its name, and how asking went."""

    noun: ClassVar[str]
    """What its events begin with, after `warcraft.`."""

    name = models.CharField(_("name"), max_length=100, validators=[check_name])
    realm = models.CharField(
        _("realm"),
        max_length=100,
        validators=[check_name],
        help_text=_("Its name or its slug: Argent Dawn, argent-dawn."),
    )
    region = models.CharField(_("region"), max_length=2, choices=Region.choices)
    name_slug = models.CharField(_("name in addresses"), max_length=100, editable=False)
    realm_slug = models.CharField(_("realm in addresses"), max_length=100, editable=False)
    achievement_points = models.PositiveIntegerField(
        _("achievement points"), null=True, editable=False
    )

    status = models.CharField(
        _("status"), max_length=10, choices=Status.choices, default=Status.NEW, editable=False
    )
    synced_at = models.DateTimeField(_("synced"), null=True, editable=False)
    # Not the database's default: pages by this moment compare it, and SQLite's has fewer digits.
    next_try_at = models.DateTimeField(_("next try"), default=timezone.now, editable=False)
    failures = models.PositiveIntegerField(_("failures in a row"), default=0, editable=False)
    last_error = models.CharField(_("last error"), max_length=500, blank=True, editable=False)
    is_asked = models.BooleanField(_("asked for"), default=False, editable=False)
    asked_at = models.DateTimeField(_("last asked for"), null=True, editable=False)
    modified = models.JSONField(_("modified"), default=dict, editable=False)
    """`Last-Modified` of each document, as Battle.net wrote it; what was never read has none."""
    created_at = models.DateTimeField(_("added"), db_default=Now(), editable=False)

    class Meta:
        abstract = True
        ordering = ["name", "pk"]

    def __str__(self) -> str:
        return f"{self.name} – {self.realm} ({self.region.upper()})"

    def natural_key(self) -> tuple[str, str, str]:
        return self.region, self.realm_slug, self.name_slug

    def save(self, *args: Any, **options: Any) -> None:
        self.set_slugs()
        super().save(*args, **options)

    def set_slugs(self) -> None:
        self.name_slug, self.realm_slug = name_slug(self.name), realm_slug(self.realm)

    def validate_constraints(self, exclude: Iterable[str] | None = None) -> None:
        """A form leaves out what it does not show: here that is what must be unique.

        Where one is empty, the field that it is made of says so.
        """
        self.set_slugs()
        made, given = {"name_slug", "realm_slug"}, set(exclude or ())
        is_whole = self.name_slug and self.realm_slug
        super().validate_constraints(given - made if is_whole else given | made)

    @property
    def key(self) -> str:
        """That of its events."""
        return f"{self.noun}-{self.pk}"


def tracked_constraints(noun: str) -> list[models.BaseConstraint]:
    return [
        models.UniqueConstraint(
            fields=["region", "realm_slug", "name_slug"],
            name=f"warcraft_one_{noun}_of_a_name",
            violation_error_message=_("It is followed already."),
        ),
        models.CheckConstraint(
            condition=models.Q(region__in=Region.values), name=f"warcraft_{noun}_region"
        ),
        models.CheckConstraint(
            condition=~models.Q(name_slug="") & ~models.Q(realm_slug=""),
            name=f"warcraft_{noun}_has_an_address",
        ),
        models.CheckConstraint(
            condition=models.Q(is_asked=False) | models.Q(asked_at__isnull=False),
            name=f"warcraft_{noun}_asked_at_a_moment",
        ),
    ]


def tracked_indexes(noun: str) -> list[models.Index]:
    return [
        models.Index(fields=["next_try_at", "id"], name=f"warcraft_{noun}_due"),
        models.Index(
            fields=["id"],
            name=f"warcraft_{noun}_asked",
            condition=models.Q(is_asked=True),
        ),
        models.Index(
            fields=["asked_at"],
            name=f"warcraft_{noun}_refresh",
            condition=models.Q(asked_at__isnull=False),
        ),
        models.Index(fields=["status", "name", "id"], name=f"warcraft_{noun}_status"),
        models.Index(fields=["name", "id"], name=f"warcraft_{noun}_name"),
    ]


class Character(Tracked):
    """What is null was not synced yet."""

    noun = "character"

    level = models.PositiveSmallIntegerField(_("level"), null=True, editable=False)
    item_level = models.PositiveSmallIntegerField(_("item level"), null=True, editable=False)
    """Of what it wears."""
    playable_class = models.ForeignKey(
        PlayableClass, models.PROTECT, verbose_name=_("class"), null=True, editable=False
    )
    race = models.ForeignKey(
        Race, models.PROTECT, verbose_name=_("race"), null=True, editable=False
    )
    faction = models.ForeignKey(
        Faction, models.PROTECT, verbose_name=_("faction"), null=True, editable=False
    )
    specialization = models.CharField(
        _("specialization"), max_length=100, blank=True, editable=False
    )
    guild_name = models.CharField(_("guild"), max_length=100, blank=True, editable=False)
    last_login_at = models.DateTimeField(_("last login"), null=True, editable=False)
    thumbnail = models.URLField(_("thumbnail"), max_length=500, blank=True, editable=False)

    objects = TrackedQuerySet.as_manager()

    class Meta(Tracked.Meta):
        abstract = False
        verbose_name = _("character")
        verbose_name_plural = _("characters")
        constraints = tracked_constraints("character")
        indexes = tracked_indexes("character")


class Equipment(models.Model):
    """What a character wears: beside its row, so that lists do not read it."""

    character = models.OneToOneField(Character, models.CASCADE, primary_key=True)
    items = models.JSONField(_("items"), default=list)
    """Each slot, item_id, name, quality, level."""
    changed_at = models.DateTimeField(_("changed"))

    class Meta:
        verbose_name = _("equipment")
        verbose_name_plural = _("equipment")

    def __str__(self) -> str:
        return str(self.character)


class Statistics(models.Model):
    character = models.OneToOneField(Character, models.CASCADE, primary_key=True)
    values = models.JSONField(_("values"), default=dict)
    """As Battle.net names them: health, power, strength, melee_crit, ..."""
    changed_at = models.DateTimeField(_("changed"))

    class Meta:
        verbose_name = _("statistics")
        verbose_name_plural = _("statistics")

    def __str__(self) -> str:
        return str(self.character)


class Guild(Tracked):
    noun = "guild"

    faction = models.ForeignKey(
        Faction, models.PROTECT, verbose_name=_("faction"), null=True, editable=False
    )
    member_count = models.PositiveIntegerField(_("members"), null=True, editable=False)

    objects = TrackedQuerySet.as_manager()

    class Meta(Tracked.Meta):
        abstract = False
        verbose_name = _("guild")
        verbose_name_plural = _("guilds")
        constraints = tracked_constraints("guild")
        indexes = tracked_indexes("guild")


class MemberQuerySet(models.QuerySet["GuildMember"]):
    def current(self) -> "MemberQuerySet":
        return self.filter(left_at=None)

    def get_by_natural_key(
        self, region: str, realm: str, name: str, battlenet_id: int
    ) -> "GuildMember":
        """The last stay of that character."""
        guild = Guild.objects.get_by_natural_key(region, realm, name)
        return self.filter(guild=guild, battlenet_id=battlenet_id).latest("pk")


class GuildMember(models.Model):
    """One stay of a character in a guild; who comes back has another."""

    guild = models.ForeignKey(
        Guild, models.CASCADE, related_name="members", verbose_name=_("guild")
    )
    battlenet_id = models.PositiveBigIntegerField(_("Battle.net's id"))
    """Of the character on its realm: it stays when the name changes."""
    name = models.CharField(_("name"), max_length=100)
    realm_slug = models.CharField(_("realm"), max_length=100)
    rank = models.PositiveSmallIntegerField(_("rank"))
    """0 leads the guild."""
    level = models.PositiveSmallIntegerField(_("level"), null=True)
    playable_class = models.ForeignKey(
        PlayableClass, models.PROTECT, verbose_name=_("class"), null=True
    )
    race = models.ForeignKey(Race, models.PROTECT, verbose_name=_("race"), null=True)
    joined_at = models.DateTimeField(_("joined"), null=True)
    """When it was first seen in a roster; null: it was there in the first one."""
    left_at = models.DateTimeField(_("left"), null=True)

    objects = MemberQuerySet.as_manager()

    class Meta:
        verbose_name = _("member")
        verbose_name_plural = _("members")
        ordering = ["rank", "name", "pk"]
        constraints = [
            models.UniqueConstraint(
                fields=["guild", "realm_slug", "battlenet_id"],
                name="warcraft_one_stay_at_a_time",
                condition=models.Q(left_at=None),
            )
        ]
        indexes = [
            models.Index(fields=["guild", "rank", "name"], name="warcraft_member_roster"),
            models.Index(fields=["name"], name="warcraft_member_name"),
        ]

    def __str__(self) -> str:
        return self.name


class RosterChange(models.Model):
    """What was different in a roster: the history of a guild."""

    class Kind(models.TextChoices):
        JOINED = "JOINED", _("Joined")
        LEFT = "LEFT", _("Left")
        RANK = "RANK", _("Rank")
        RENAMED = "RENAMED", _("Renamed")

    guild = models.ForeignKey(
        Guild, models.CASCADE, related_name="changes", verbose_name=_("guild")
    )
    member = models.ForeignKey(
        GuildMember, models.CASCADE, related_name="changes", verbose_name=_("member")
    )
    kind = models.CharField(_("change"), max_length=10, choices=Kind.choices)
    before = models.CharField(_("before"), max_length=100, blank=True)
    after = models.CharField(_("after"), max_length=100, blank=True)
    at = models.DateTimeField(_("seen"))

    class Meta:
        verbose_name = _("roster change")
        verbose_name_plural = _("roster changes")
        ordering = ["-id"]
        indexes = [models.Index(fields=["guild", "-id"], name="warcraft_change_history")]

    def __str__(self) -> str:
        return f"{self.member}: {self.get_kind_display()}"

    @property
    def was(self) -> str:
        return self._words(self.before)

    @property
    def became(self) -> str:
        return self._words(self.after)

    def _words(self, value: str) -> str:
        is_rank = value and self.kind != self.Kind.RENAMED
        return gettext("rank %(rank)s") % {"rank": value} if is_rank else value


class Budget(models.Model):
    """How many requests Battle.net may be sent: one row for all processes.

    A row, because without Redis they share no cache. Both moments are those at which all that
    was taken so far would have been earned.
    """

    hourly_at = models.DateTimeField(_("earned by the hour"))
    secondly_at = models.DateTimeField(_("earned by the second"))
    held_until = models.DateTimeField(_("held until"), null=True)
    """Battle.net asked to wait (429)."""

    class Meta:
        verbose_name = _("budget")
        verbose_name_plural = _("budgets")

    def __str__(self) -> str:
        return f"{self.hourly_at:%H:%M:%S}"

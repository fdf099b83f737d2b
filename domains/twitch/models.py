from datetime import datetime, timedelta

from django.core.validators import RegexValidator
from django.db import models
from django.db.models.functions import Now
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

CHAT_ONLY = "Chat-Only"
"""The title of the stream that a migration makes, for what is said while nobody streams."""


class StreamQuerySet(models.QuerySet["Stream"]):
    def active(self) -> "StreamQuerySet":
        return self.filter(ended_at=None)

    def real(self) -> "StreamQuerySet":
        return self.filter(is_chat_only=False)

    def abandoned(self, since: datetime) -> "StreamQuerySet":
        """Nothing was heard of them since then; the Chat-Only stream is quiet, not abandoned."""
        return self.real().active().filter(last_activity_at__lt=since)

    def chat_only(self) -> "Stream":
        """The one that a migration made."""
        now = timezone.now()
        defaults = {"title": CHAT_ONLY, "started_at": now, "last_activity_at": now}
        return self.get_or_create(is_chat_only=True, defaults=defaults)[0]


class Stream(models.Model):
    channel = models.CharField(_("channel"), max_length=50, blank=True)
    twitch_id = models.CharField(_("Twitch id"), max_length=50, unique=True, null=True, blank=True)
    title = models.CharField(_("title"), max_length=300, blank=True)
    game_name = models.CharField(_("game"), max_length=200, blank=True)
    game_id = models.CharField(_("game id"), max_length=50, blank=True)
    started_at = models.DateTimeField(_("started"))
    ended_at = models.DateTimeField(_("ended"), null=True, blank=True, editable=False)
    last_activity_at = models.DateTimeField(_("last activity"), editable=False)
    """When something was heard of it last: a message, a count of viewers, another title."""
    peak_viewers = models.PositiveIntegerField(_("peak viewers"), default=0, editable=False)
    viewer_sum = models.PositiveBigIntegerField(_("sum of viewers"), default=0, editable=False)
    viewer_samples = models.PositiveIntegerField(_("counts of viewers"), default=0, editable=False)
    total_messages = models.PositiveBigIntegerField(_("messages"), default=0, editable=False)
    is_chat_only = models.BooleanField(_("chat only"), default=False, editable=False)

    objects = StreamQuerySet.as_manager()

    class Meta:
        verbose_name = _("stream")
        verbose_name_plural = _("streams")
        ordering = ["-started_at", "-pk"]
        constraints = [
            models.UniqueConstraint(
                fields=["channel"],
                condition=models.Q(ended_at=None, is_chat_only=False),
                name="twitch_stream_one_live_in_a_channel",
                violation_error_message=_("The channel streams already."),
            ),
            models.UniqueConstraint(
                fields=["is_chat_only"],
                condition=models.Q(is_chat_only=True),
                name="twitch_stream_one_chat_only",
                violation_error_message=_("There is a Chat-Only stream already."),
            ),
            models.CheckConstraint(
                condition=models.Q(is_chat_only=False) | models.Q(ended_at=None),
                name="twitch_stream_chat_only_never_ends",
                violation_error_message=_("The Chat-Only stream never ends."),
            ),
            models.CheckConstraint(
                condition=models.Q(ended_at=None) | models.Q(ended_at__gte=models.F("started_at")),
                name="twitch_stream_ends_after_its_start",
                violation_error_message=_("A stream ends after its start."),
            ),
        ]
        indexes = [
            models.Index(
                fields=["last_activity_at", "id"],
                name="twitch_stream_abandoned",
                condition=models.Q(ended_at=None, is_chat_only=False),
            )
        ]

    def __str__(self) -> str:
        return CHAT_ONLY if self.is_chat_only else self.title or self.channel

    @property
    def is_active(self) -> bool:
        return self.ended_at is None

    @property
    def average_viewers(self) -> int:
        return round(self.viewer_sum / self.viewer_samples) if self.viewer_samples else 0

    @property
    def duration(self) -> timedelta | None:
        return self.ended_at - self.started_at if self.ended_at else None


class Viewer(models.Model):
    """A person of whom something was heard, in any channel."""

    twitch_id = models.CharField(_("Twitch id"), max_length=50, unique=True)
    username = models.CharField(_("username"), max_length=50, db_index=True)
    display_name = models.CharField(_("name"), max_length=100, blank=True)
    total_messages = models.PositiveBigIntegerField(_("messages"), default=0)
    first_seen_at = models.DateTimeField(_("first seen"))
    last_seen_at = models.DateTimeField(_("last seen"))

    class Meta:
        verbose_name = _("viewer")
        verbose_name_plural = _("viewers")
        ordering = ["-last_seen_at", "-pk"]
        indexes = [models.Index(fields=["-last_seen_at", "-id"], name="twitch_viewer_newest")]

    def __str__(self) -> str:
        return self.display_name or self.username


class ChannelViewer(models.Model):
    """What a viewer is in one channel."""

    channel = models.CharField(_("channel"), max_length=50)
    viewer = models.ForeignKey(
        Viewer, models.CASCADE, related_name="channels", verbose_name=_("viewer")
    )
    is_moderator = models.BooleanField(_("moderator"), default=False)
    is_vip = models.BooleanField(_("VIP"), default=False)
    is_subscriber = models.BooleanField(_("subscriber"), default=False)
    total_messages = models.PositiveBigIntegerField(_("messages"), default=0)
    first_seen_at = models.DateTimeField(_("first seen"))
    last_seen_at = models.DateTimeField(_("last seen"))

    class Meta:
        verbose_name = _("viewer of a channel")
        verbose_name_plural = _("viewers of channels")
        ordering = ["-total_messages", "-pk"]
        constraints = [
            models.UniqueConstraint(
                fields=["channel", "viewer"], name="twitch_channelviewer_once_in_a_channel"
            )
        ]
        indexes = [models.Index(fields=["-total_messages", "-id"], name="twitch_chv_talkers")]

    def __str__(self) -> str:
        return f"{self.viewer} in {self.channel}"


class Message(models.Model):
    """What somebody said; kept for MESSAGE_CLEANUP_RETENTION_DAYS."""

    twitch_id = models.CharField(_("Twitch id"), max_length=64, unique=True)
    """By which it is known when it is sent again."""
    stream = models.ForeignKey(
        Stream, models.CASCADE, related_name="messages", verbose_name=_("stream")
    )
    channel = models.CharField(_("channel"), max_length=50)
    user_id = models.CharField(_("user id"), max_length=50)
    username = models.CharField(_("username"), max_length=50)
    display_name = models.CharField(_("name"), max_length=100, blank=True)
    text = models.TextField(_("text"))
    is_moderator = models.BooleanField(_("moderator"), default=False)
    is_subscriber = models.BooleanField(_("subscriber"), default=False)
    is_vip = models.BooleanField(_("VIP"), default=False)
    is_broadcaster = models.BooleanField(_("broadcaster"), default=False)
    sent_at = models.DateTimeField(_("sent"))

    class Meta:
        verbose_name = _("message")
        verbose_name_plural = _("messages")
        ordering = ["-sent_at", "-pk"]
        indexes = [
            models.Index(fields=["sent_at", "id"], name="twitch_message_age"),
            models.Index(fields=["user_id", "-sent_at"], name="twitch_message_of_user"),
            models.Index(fields=["channel", "-sent_at", "-id"], name="twitch_message_in_channel"),
        ]

    def __str__(self) -> str:
        return f"{self.display_name or self.username}: {self.text[:50]}"


class Command(models.Model):
    """What the bot answers to `!name`."""

    name = models.CharField(
        _("name"),
        max_length=50,
        unique=True,
        validators=[RegexValidator(r"^[a-z0-9_]+$", _("Write small letters, digits and _."))],
        help_text=_("Without the exclamation mark."),
    )
    response = models.TextField(
        _("answer"),
        max_length=500,
        help_text=_("{user}, {channel} and {count} are filled in. At most 500 letters."),
    )
    is_active = models.BooleanField(_("active"), default=True)
    moderator_only = models.BooleanField(_("only moderators"), default=False)
    subscriber_only = models.BooleanField(_("only subscribers"), default=False)
    cooldown_seconds = models.PositiveIntegerField(
        _("cool-down"), default=0, help_text=_("Seconds until it answers again.")
    )
    usage_count = models.PositiveBigIntegerField(_("used"), default=0, editable=False)
    last_used_at = models.DateTimeField(_("last used"), null=True, editable=False)

    class Meta:
        verbose_name = _("command")
        verbose_name_plural = _("commands")
        ordering = ["name"]
        permissions = [("use_command", "Can ask for the answer of a command")]

    def __str__(self) -> str:
        return f"!{self.name}"


class Clip(models.Model):
    twitch_clip_id = models.CharField(_("Twitch id"), max_length=200, unique=True)
    channel = models.CharField(_("channel"), max_length=50)
    stream = models.ForeignKey(
        Stream,
        models.SET_NULL,
        related_name="clips",
        verbose_name=_("stream"),
        null=True,
        blank=True,
    )
    title = models.CharField(_("title"), max_length=300)
    url = models.URLField(_("address"), max_length=500)
    creator_name = models.CharField(_("by"), max_length=100, blank=True)
    view_count = models.PositiveIntegerField(_("views"), default=0)
    duration_seconds = models.FloatField(_("seconds"), default=0)
    created_at = models.DateTimeField(_("made"))
    added_at = models.DateTimeField(_("added"), db_default=Now(), editable=False)

    class Meta:
        verbose_name = _("clip")
        verbose_name_plural = _("clips")
        ordering = ["-created_at", "-pk"]

    def __str__(self) -> str:
        return self.title

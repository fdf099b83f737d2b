from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _
from unfold.admin import ModelAdmin, TabularInline
from unfold.contrib.filters.admin import (
    AllValuesCheckboxFilter,
    BooleanRadioFilter,
    FieldTextFilter,
    RadioFilter,
)
from unfold.decorators import action, display
from unfold.enums import ActionVariant
from unfold.paginator import InfinitePaginator

from domains.twitch import services
from domains.twitch.models import ChannelViewer, Clip, Command, Message, Stream, Viewer
from jobs.pages import Question, ReadOnlyAdmin, ask, confirmed, digits, span, to_the_second

STATES: dict[str, Any] = {"live": _("Live"), "ended": _("Ended"), "chat": _("Chat only")}
STATE_LABELS = {"live": "success", "ended": "", "chat": "info"}


def state_of(stream: Stream) -> str:
    if stream.is_chat_only:
        return "chat"
    return "live" if stream.is_active else "ended"


def link(url: str, text: Any) -> SafeString:
    return format_html('<a class="text-link" href="{}">{}</a>', url, text)


class StateFilter(RadioFilter):
    title = _("state")
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return list(STATES.items())

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        match self.value():
            case "live":
                return queryset.real().active()
            case "ended":
                return queryset.exclude(ended_at=None)
            case "chat":
                return queryset.filter(is_chat_only=True)
        return queryset


@admin.register(Stream)
class StreamAdmin(ReadOnlyAdmin):
    list_display = (
        "name",
        "state_label",
        "channel",
        "game_name",
        "started",
        "length",
        "peak",
        "average",
        "said",
    )
    list_filter = (StateFilter, ("channel", AllValuesCheckboxFilter))
    search_fields = ("title", "game_name", "channel")
    search_help_text = _("Title, game or channel")
    show_full_result_count = False
    list_per_page = 50
    actions_detail = ("end_one",)
    fieldsets = (
        (None, {"fields": ("title", "state_in_words", "channel", "game_name", "twitch_id")}),
        (_("Life"), {"fields": ("started", "active", "ended", "length")}),
        (_("Numbers"), {"fields": ("peak", "average", "said")}),
    )

    def has_steer_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return request.user.has_perm("twitch.change_stream")

    def get_actions_detail(self, request: HttpRequest, object_id: Any) -> list[Any]:
        live = Stream.objects.real().active().filter(pk=object_id).exists()
        offered: list[Any] = super().get_actions_detail(request, object_id)
        return offered if live else []

    @display(description=_("stream"), ordering="title")
    def name(self, stream: Stream) -> str:
        return str(stream)

    @display(description=_("state"), ordering="ended_at", label=STATE_LABELS)
    def state_label(self, stream: Stream) -> tuple[str, Any]:
        return state_of(stream), STATES[state_of(stream)]

    @display(description=_("state"))
    def state_in_words(self, stream: Stream) -> Any:
        return STATES[state_of(stream)]

    @display(description=_("started"), ordering="started_at")
    def started(self, stream: Stream) -> str:
        return to_the_second(stream.started_at)

    @display(description=_("last activity"), ordering="last_activity_at")
    def active(self, stream: Stream) -> str:
        return to_the_second(stream.last_activity_at)

    @display(description=_("ended"), ordering="ended_at")
    def ended(self, stream: Stream) -> str:
        return to_the_second(stream.ended_at)

    @display(description=_("length"))
    def length(self, stream: Stream) -> str:
        return span(stream.duration) or "–"

    @display(description=_("most viewers"), ordering="peak_viewers")
    def peak(self, stream: Stream) -> str:
        return digits(stream.peak_viewers)

    @display(description=_("viewers on average"))
    def average(self, stream: Stream) -> str:
        return digits(stream.average_viewers)

    @display(description=_("messages"), ordering="total_messages")
    def said(self, stream: Stream) -> SafeString:
        url = f"{reverse('admin:twitch_message_changelist')}?stream__id__exact={stream.pk}"
        return link(url, digits(stream.total_messages))

    @action(
        description=_("End"),
        url_path="end",
        permissions=["steer"],
        variant=ActionVariant.DANGER,
    )
    def end_one(self, request: HttpRequest, object_id: str) -> HttpResponse:
        stream = get_object_or_404(Stream, pk=object_id)
        back = reverse("admin:twitch_stream_change", args=[stream.pk])
        question = Question(
            title=_("End %(stream)s?") % {"stream": stream},
            text=_("What is said from now on goes to the Chat-Only stream. Nothing resumes it."),
            submit=_("End"),
            back=back,
            danger=True,
        )
        if not confirmed(request):
            return ask(self, request, question)
        try:
            services.end(stream)
        except services.InvalidTransition as error:
            messages.error(request, str(error))
        else:
            self.log_change(request, stream, str(_("Ended")))
            messages.success(request, _("It is over."))
        return redirect(back)


@admin.register(Message)
class MessageAdmin(ReadOnlyAdmin):
    list_display = ("sent", "who", "roles", "words", "channel", "of_stream")
    list_display_links = ("sent",)
    list_filter = (
        ("channel", FieldTextFilter),
        ("is_moderator", BooleanRadioFilter),
        ("is_subscriber", BooleanRadioFilter),
    )
    list_filter_submit = True
    list_select_related = ("stream",)
    search_fields = ("username__startswith", "text")
    search_help_text = _("Words, or the beginning of a username")
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    paginator = InfinitePaginator
    list_per_page = 50
    fieldsets = (
        (None, {"fields": ("text", "sent", "who", "username", "user_id", "roles")}),
        (_("Where"), {"fields": ("channel", "of_stream", "twitch_id")}),
    )

    @display(description=_("sent"), ordering="sent_at")
    def sent(self, message: Message) -> str:
        return to_the_second(message.sent_at)

    @display(description=_("who"), ordering="username")
    def who(self, message: Message) -> str:
        return message.display_name or message.username

    @display(description=_("is"))
    def roles(self, message: Message) -> str:
        return ", ".join(roles_of(message)) or "–"

    @display(description=_("message"))
    def words(self, message: Message) -> str:
        return message.text[:200] + ("…" if len(message.text) > 200 else "")

    @display(description=_("stream"))
    def of_stream(self, message: Message) -> SafeString:
        return link(reverse("admin:twitch_stream_change", args=[message.stream_id]), message.stream)


def roles_of(row: Any) -> list[str]:
    roles = {
        "is_broadcaster": _("broadcaster"),
        "is_moderator": _("moderator"),
        "is_vip": _("VIP"),
        "is_subscriber": _("subscriber"),
    }
    return [str(name) for flag, name in roles.items() if getattr(row, flag, False)]


@admin.register(Command)
class CommandAdmin(ModelAdmin):
    list_display = ("__str__", "active_label", "answer", "who", "cooldown", "used", "last_used")
    list_filter = (("is_active", BooleanRadioFilter), ("moderator_only", BooleanRadioFilter))
    search_fields = ("name", "response")
    search_help_text = _("Name or words of the answer")
    actions = ("switch_on", "switch_off")
    readonly_fields = ("used", "last_used")
    WHAT = (None, {"fields": ("name", "response", "is_active")})
    WHO = (_("Who and when"), {"fields": ("moderator_only", "subscriber_only", "cooldown_seconds")})
    USE = (_("Use"), {"fields": ("used", "last_used")})

    def get_fieldsets(self, request: HttpRequest, obj: Command | None = None) -> Any:
        return (self.WHAT, self.WHO, self.USE) if obj else (self.WHAT, self.WHO)

    def save_model(self, request: HttpRequest, obj: Command, form: Any, change: Any) -> None:
        """How often it was used meanwhile stays."""
        obj.save(update_fields=form.changed_data if change else None)

    @display(
        description=_("state"),
        ordering="is_active",
        label={"on": "success", "off": ""},
    )
    def active_label(self, command: Command) -> tuple[str, Any]:
        return ("on", _("On")) if command.is_active else ("off", _("Off"))

    @display(description=_("answer"))
    def answer(self, command: Command) -> str:
        return command.response[:80] + ("…" if len(command.response) > 80 else "")

    @display(description=_("for"))
    def who(self, command: Command) -> Any:
        if command.moderator_only:
            return _("moderators")
        return _("subscribers") if command.subscriber_only else _("everyone")

    @display(description=_("cool-down"), ordering="cooldown_seconds")
    def cooldown(self, command: Command) -> str:
        return f"{digits(command.cooldown_seconds)} s" if command.cooldown_seconds else "–"

    @display(description=_("used"), ordering="usage_count")
    def used(self, command: Command) -> str:
        return digits(command.usage_count)

    @display(description=_("last used"), ordering="last_used_at")
    def last_used(self, command: Command) -> str:
        return to_the_second(command.last_used_at)

    @admin.action(description=_("Switch on"), permissions=["change"])
    def switch_on(self, request: HttpRequest, queryset: QuerySet[Command]) -> None:
        self._switch(request, queryset, is_active=True)

    @admin.action(description=_("Switch off"), permissions=["change"])
    def switch_off(self, request: HttpRequest, queryset: QuerySet[Command]) -> None:
        self._switch(request, queryset, is_active=False)

    def _switch(
        self, request: HttpRequest, queryset: QuerySet[Command], *, is_active: bool
    ) -> None:
        noted = _("Switched on") if is_active else _("Switched off")
        switched = services.switch(queryset, is_active=is_active)
        for command in switched:
            self.log_change(request, command, str(noted))
        said = ", ".join(map(str, switched)) or _("nothing to do")
        messages.success(request, f"{noted}: {said}")


class ChannelViewerInline(TabularInline):
    model = ChannelViewer
    fields = ("channel", "is_moderator", "is_vip", "is_subscriber", "total_messages")
    readonly_fields = fields
    hide_title = True
    extra = 0
    can_delete = False

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(Viewer)
class ViewerAdmin(ReadOnlyAdmin):
    list_display = ("__str__", "username", "said", "first_seen", "last_seen")
    search_fields = ("username__startswith", "display_name", "twitch_id")
    search_help_text = _("Name or Twitch id")
    show_full_result_count = False
    paginator = InfinitePaginator
    list_per_page = 50
    inlines = (ChannelViewerInline,)
    fieldsets = (
        (None, {"fields": ("username", "display_name", "twitch_id")}),
        (_("Seen"), {"fields": ("said", "first_seen", "last_seen")}),
    )

    @display(description=_("messages"), ordering="total_messages")
    def said(self, viewer: Viewer) -> str:
        return digits(viewer.total_messages)

    @display(description=_("first seen"), ordering="first_seen_at")
    def first_seen(self, viewer: Viewer) -> str:
        return to_the_second(viewer.first_seen_at)

    @display(description=_("last seen"), ordering="last_seen_at")
    def last_seen(self, viewer: Viewer) -> str:
        return to_the_second(viewer.last_seen_at)


@admin.register(ChannelViewer)
class ChannelViewerAdmin(ReadOnlyAdmin):
    list_display = ("viewer", "channel", "roles", "said", "last_seen")
    list_filter = (
        ("channel", FieldTextFilter),
        ("is_moderator", BooleanRadioFilter),
        ("is_vip", BooleanRadioFilter),
        ("is_subscriber", BooleanRadioFilter),
    )
    list_filter_submit = True
    list_select_related = ("viewer",)
    search_fields = ("viewer__username__startswith",)
    search_help_text = _("The beginning of a username")
    show_full_result_count = False
    paginator = InfinitePaginator
    list_per_page = 50
    fieldsets = ((None, {"fields": ("viewer", "channel", "roles", "said", "last_seen")}),)

    @display(description=_("is"))
    def roles(self, row: ChannelViewer) -> str:
        return ", ".join(roles_of(row)) or "–"

    @display(description=_("messages"), ordering="total_messages")
    def said(self, row: ChannelViewer) -> str:
        return digits(row.total_messages)

    @display(description=_("last seen"), ordering="last_seen_at")
    def last_seen(self, row: ChannelViewer) -> str:
        return to_the_second(row.last_seen_at)


@admin.register(Clip)
class ClipAdmin(ReadOnlyAdmin):
    list_display = ("title", "channel", "creator_name", "views", "made", "watch")
    list_filter = (("channel", AllValuesCheckboxFilter),)
    search_fields = ("title", "creator_name")
    search_help_text = _("Title or who made it")
    fieldsets = (
        (None, {"fields": ("title", "channel", "creator_name", "watch")}),
        (_("Facts"), {"fields": ("stream", "views", "duration_seconds", "made")}),
    )

    @display(description=_("views"), ordering="view_count")
    def views(self, clip: Clip) -> str:
        return digits(clip.view_count)

    @display(description=_("made"), ordering="created_at")
    def made(self, clip: Clip) -> str:
        return to_the_second(clip.created_at)

    @display(description=_("watch"))
    def watch(self, clip: Clip) -> SafeString:
        return link(clip.url, _("Watch"))

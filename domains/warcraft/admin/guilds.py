from datetime import timedelta
from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _
from unfold.contrib.filters.admin import ChoicesRadioFilter
from unfold.decorators import action, display

from domains.warcraft.admin.tracked import TrackedAdmin
from domains.warcraft.models import Guild, GuildMember, RosterChange
from jobs import clock
from jobs.pages import ReadOnlyAdmin, digits, to_the_second

CHANGE_LABELS = {
    RosterChange.Kind.JOINED: "success",
    RosterChange.Kind.LEFT: "danger",
    RosterChange.Kind.RANK: "info",
    RosterChange.Kind.RENAMED: "default",
}
RECENT = timedelta(days=30)
SHOWN_CHANGES = 20
PAGE = 100


@admin.register(Guild)
class GuildAdmin(TrackedAdmin):
    list_display = (
        "name",
        "where",
        "status_label",
        "faction",
        "roster_link",
        "achievement_points",
        "synced",
        "next_one",
        "short_error",
    )
    list_select_related = ("faction",)
    actions_detail = ("show_roster", "refresh_one")
    details = ("faction", "roster_link", "achievement_points")
    readonly_fields = (*TrackedAdmin.state, *details)

    def get_urls(self) -> list[URLPattern]:
        own = path("<int:pk>/roster/", self._guarded(self.roster), name="warcraft_guild_roster")
        return [own, *super().get_urls()]

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        """Rosters and their history go with them, though nobody may delete these alone."""
        guilds = [guild.pk for guild in objs]
        counts = {
            _("guilds"): digits(len(guilds)),
            _("members"): digits(GuildMember.objects.filter(guild__in=guilds).count()),
            _("roster changes"): digits(RosterChange.objects.filter(guild__in=guilds).count()),
        }
        return [str(guild) for guild in objs], counts, set(), []

    def get_fieldsets(self, request: HttpRequest, obj: Guild | None = None) -> Any:
        who = (None, {"fields": self.identity})
        if obj is None:
            return (who,)
        return (
            who,
            (_("Battle.net"), {"fields": self.state}),
            (_("Details"), {"fields": self.details}),
        )

    @display(description=_("members"), ordering="member_count")
    def roster_link(self, guild: Guild) -> SafeString | str:
        if guild.member_count is None:
            return "–"
        return format_html(
            '<a class="text-link" href="{}">{}</a>', roster_of(guild.pk), digits(guild.member_count)
        )

    @action(description=_("Roster"), url_path="show-roster", icon="groups", permissions=["view"])
    def show_roster(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return redirect(roster_of(get_object_or_404(Guild, pk=object_id).pk))

    def roster(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Who is in the guild, and what changed lately."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        guild = get_object_or_404(Guild.objects.select_related("faction"), pk=pk)
        members = guild.members.current().select_related("playable_class", "race")
        page = Paginator(members, PAGE).get_page(request.GET.get("p"))
        recent = guild.changes.filter(at__gte=clock.now() - RECENT)
        changes_url = reverse("admin:warcraft_rosterchange_changelist")
        kinds = list(recent.values_list("kind", flat=True))
        context = self.admin_site.each_context(request) | {
            "title": _("Roster of %(guild)s") % {"guild": guild},
            "opts": self.model._meta,
            "guild": guild,
            "synced": to_the_second(guild.synced_at),
            "page": page,
            "numbers": [
                (_("Members"), digits(page.paginator.count)),
                (_("Joined in 30 days"), digits(kinds.count(RosterChange.Kind.JOINED))),
                (_("Left in 30 days"), digits(kinds.count(RosterChange.Kind.LEFT))),
            ],
            "changes": [
                (change, CHANGE_LABELS[RosterChange.Kind(change.kind)], to_the_second(change.at))
                for change in guild.changes.select_related("member")[:SHOWN_CHANGES]
            ],
            "all_changes": f"{changes_url}?guild__id__exact={pk}",
            "may_see_changes": request.user.has_perm("warcraft.view_rosterchange"),
        }
        return TemplateResponse(request, "admin/warcraft/guild/roster.html", context)


class Stay(admin.SimpleListFilter):
    title = _("stay")
    parameter_name = "stay"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [("current", _("In the guild")), ("past", _("Has left"))]

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        if self.value() in ("current", "past"):
            return queryset.filter(left_at__isnull=self.value() == "current")
        return queryset


@admin.register(GuildMember)
class GuildMemberAdmin(ReadOnlyAdmin):
    list_display = (
        "name",
        "in_guild",
        "rank",
        "level",
        "playable_class",
        "race",
        "joined",
        "left",
    )
    list_filter = (Stay, "playable_class")
    list_select_related = ("guild", "playable_class", "race")
    search_fields = ("name__istartswith", "guild__name__istartswith")
    search_help_text = _("The beginning of a name or of the guild's")
    show_full_result_count = False
    list_per_page = 50
    fieldsets = (
        (None, {"fields": ("name", "realm_slug", "in_guild", "rank", "level")}),
        (_("Details"), {"fields": ("playable_class", "race", "battlenet_id")}),
        (_("Stay"), {"fields": ("joined", "left")}),
    )

    @display(description=_("guild"), ordering="guild__name")
    def in_guild(self, member: GuildMember) -> SafeString:
        url = roster_of(member.guild_id)
        return format_html('<a class="text-link" href="{}">{}</a>', url, member.guild)

    @display(description=_("joined"), ordering="joined_at")
    def joined(self, member: GuildMember) -> Any:
        return to_the_second(member.joined_at) if member.joined_at else _("before it was followed")

    @display(description=_("left"), ordering="left_at")
    def left(self, member: GuildMember) -> str:
        return to_the_second(member.left_at)


@admin.register(RosterChange)
class RosterChangeAdmin(ReadOnlyAdmin):
    list_display = ("member", "kind_label", "in_guild", "was", "became", "seen")
    list_filter = (("kind", ChoicesRadioFilter),)
    list_select_related = ("guild", "member")
    search_fields = ("member__name__istartswith", "guild__name__istartswith")
    search_help_text = _("The beginning of a name or of the guild's")
    show_full_result_count = False
    list_per_page = 50
    fieldsets = ((None, {"fields": ("member", "kind", "in_guild", "was", "became", "seen")}),)

    def lookup_allowed(self, lookup: str, value: str, request: Any = None) -> bool:
        return lookup == "guild__id__exact" or bool(super().lookup_allowed(lookup, value, request))

    @display(description=_("change"), ordering="kind", label=CHANGE_LABELS)
    def kind_label(self, change: RosterChange) -> tuple[str, str]:
        return change.kind, change.get_kind_display()

    @display(description=_("guild"), ordering="guild__name")
    def in_guild(self, change: RosterChange) -> SafeString:
        url = roster_of(change.guild_id)
        return format_html('<a class="text-link" href="{}">{}</a>', url, change.guild)

    @display(description=_("before"))
    def was(self, change: RosterChange) -> str:
        return change.was or "–"

    @display(description=_("after"))
    def became(self, change: RosterChange) -> str:
        return change.became or "–"

    @display(description=_("seen"), ordering="at")
    def seen(self, change: RosterChange) -> str:
        return to_the_second(change.at)


def roster_of(guild: int) -> str:
    return reverse("admin:warcraft_guild_roster", args=[guild])

from collections.abc import Iterator
from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.template.loader import render_to_string
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _
from unfold.decorators import display

from domains.warcraft.admin.tracked import TrackedAdmin
from domains.warcraft.models import Character, Equipment, Statistics
from jobs.pages import to_the_second


@admin.register(Character)
class CharacterAdmin(TrackedAdmin):
    list_display = (
        "name",
        "where",
        "status_label",
        "level",
        "item_level",
        "playable_class",
        "guild_name",
        "synced",
        "next_one",
        "short_error",
    )
    list_filter = (*TrackedAdmin.list_filter, "playable_class")
    list_select_related = ("playable_class",)
    search_fields = (*TrackedAdmin.search_fields, "guild_name__istartswith")
    search_help_text = _("Name, or the beginning of the realm's slug or of the guild's name")
    actions_detail = ("refresh_one",)
    details = (
        "picture",
        "level",
        "item_level",
        "playable_class",
        "specialization",
        "race",
        "faction",
        "guild_name",
        "achievement_points",
        "last_login",
    )
    readonly_fields = (*TrackedAdmin.state, *details, "worn", "numbers")

    def get_fieldsets(self, request: HttpRequest, obj: Character | None = None) -> Any:
        who = (None, {"fields": self.identity})
        if obj is None:
            return (who,)
        return (
            who,
            (_("Battle.net"), {"fields": self.state}),
            (_("Details"), {"fields": self.details}),
            (_("Equipment"), {"fields": ["worn"]}),
            (_("Statistics"), {"fields": ["numbers"]}),
        )

    @display(description=_("picture"))
    def picture(self, character: Character) -> SafeString | str:
        if not character.thumbnail:
            return "–"
        return format_html('<img src="{}" alt="" width="84" height="84">', character.thumbnail)

    @display(description=_("last login"))
    def last_login(self, character: Character) -> str:
        return to_the_second(character.last_login_at)

    @display(description=_("items"))
    def worn(self, character: Character) -> SafeString:
        found = Equipment.objects.filter(pk=character.pk).first()
        rows = [
            (_words(item["slot"]), item["name"], _words(item["quality"]), item["level"])
            for item in (found.items if found else [])
        ]
        heads = [_("Slot"), _("Item"), _("Quality"), _("Item level")]
        return _table(heads, rows, to_the_second(found.changed_at) if found else "")

    @display(description=_("values"))
    def numbers(self, character: Character) -> SafeString:
        found = Statistics.objects.filter(pk=character.pk).first()
        rows = list(_flat(found.values)) if found else []
        return _table(
            [_("Name"), _("Value")], rows, to_the_second(found.changed_at) if found else ""
        )


def _words(key: str) -> str:
    """MAIN_HAND as people write it."""
    return key.replace("_", " ").capitalize()


def _flat(values: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Of what has several numbers, the one that the game shows."""
    for name, value in values.items():
        if isinstance(value, dict):
            shown = next((value[n] for n in ("effective", "value", "rating") if n in value), None)
            value = value.get("name", shown)
        if value is not None:
            yield _words(name), round(value, 2) if isinstance(value, float) else value


def _table(heads: list[Any], rows: list[Any], changed: str) -> SafeString:
    context = {"heads": heads, "rows": rows, "changed": changed}
    return render_to_string("admin/warcraft/table.html", context)

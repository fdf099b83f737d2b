"""The admins of other people's apps, in the look of this console."""

from typing import Any

from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin as DjangoGroupAdmin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group, User
from django.db import transaction
from django.db.models import Count, QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _
from django_q.admin import FailAdmin, QueueAdmin, ScheduleAdmin, resubmit_task
from django_q.models import Failure, OrmQ, Schedule, Success
from unfold.admin import ModelAdmin
from unfold.decorators import display
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

from jobs.acting import did
from jobs.pages import OwnerAdmin

admin.site.index_title = _("Overview")
admin.site.empty_value_display = "–"  # as the pages of this console write it

REPLACED = (User, Group, Schedule, Success, Failure, OrmQ)

for model in REPLACED:
    if admin.site.is_registered(model):
        admin.site.unregister(model)


@admin.register(User)
class UserAdmin(OwnerAdmin, DjangoUserAdmin):  # type: ignore[type-arg]
    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm
    list_per_page = 50
    show_full_result_count = False
    search_help_text = _("Username, name or e-mail address")


@admin.register(Group)
class GroupAdmin(DjangoGroupAdmin, ModelAdmin):
    list_display = ("name", "members")
    search_fields = ("name",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Group]:
        queryset: QuerySet[Group] = super().get_queryset(request)
        return queryset.annotate(member_count=Count("user"))

    @display(description=_("members"), ordering="member_count")
    def members(self, group: Any) -> int:
        count: int = group.member_count
        return count


@admin.register(Schedule)
class JobScheduleAdmin(ScheduleAdmin, ModelAdmin):
    list_display = ("name", "func", "schedule_type", "next_run")
    list_display_links = ("name",)
    ordering = ("name",)


@admin.register(Failure)
class JobFailureAdmin(FailAdmin, ModelAdmin):
    show_full_result_count = False
    actions = ("resubmit_selected",)

    @admin.action(description=_("Resubmit selected"), permissions=["change"])
    def resubmit_selected(self, request: HttpRequest, queryset: QuerySet[Failure]) -> None:
        """Django-q2 would let whoever may look."""
        with transaction.atomic():
            for task in queryset:
                did("task.resubmitted", task, func=str(task.func))
            resubmit_task(self, request, queryset)


@admin.register(OrmQ)
class JobQueueAdmin(QueueAdmin, ModelAdmin):
    def log_deletions(self, request: HttpRequest, queryset: Any) -> Any:
        for task in queryset:
            did("task.deleted", task, func=str(task.func()))
        return super().log_deletions(request, queryset)

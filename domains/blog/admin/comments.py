"""Moderation."""

from collections.abc import Callable
from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import Truncator
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext
from unfold.contrib.filters.admin import ChoicesRadioFilter
from unfold.decorators import action, display
from unfold.enums import ActionVariant

from domains.blog.comments import empty_trash, moderate
from domains.blog.models import Comment, CommentStatus
from jobs.pages import Question, ReadOnlyAdmin, ask, confirmed, digits

STATUS_LABELS = {
    CommentStatus.PENDING: "warning",
    CommentStatus.APPROVED: "success",
    CommentStatus.SPAM: "danger",
    CommentStatus.TRASH: "default",
}
BUTTONS = {  # of no use to what is so already
    CommentStatus.APPROVED: "approve",
    CommentStatus.SPAM: "spam",
    CommentStatus.TRASH: "trash",
}


@admin.register(Comment)
class CommentAdmin(ReadOnlyAdmin):
    list_display = ("status_label", "author_name", "said", "post_link", "created_at")
    list_display_links = ("author_name",)
    list_filter = (("status", ChoicesRadioFilter), "created_at")
    show_facets = admin.ShowFacets.ALWAYS
    list_select_related = ("post",)
    list_per_page = 50
    search_fields = ("author_name", "author_email", "content")
    search_help_text = _("Name, e-mail or words")
    fields = (
        "status",
        "author_name",
        "author_email",
        "content",
        "post_link",
        "parent",
        "created_at",
    )
    readonly_fields = ("post_link",)
    actions = ("approve_selected", "spam_selected", "trash_selected", "delete_selected")
    actions_list = ("empty_trash",)
    actions_detail = ("approve_one", "spam_one", "trash_one")

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.has_perm("blog.delete_comment")

    def has_moderate_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.has_perm("blog.change_comment")

    def get_actions_detail(self, request: HttpRequest, object_id: Any) -> list[Any]:
        found = Comment.objects.filter(pk=object_id).values_list("status", flat=True).first()
        useless = BUTTONS.get(CommentStatus(found)) if found else None
        offered = super().get_actions_detail(request, object_id)
        return [button for button in offered if button.path != useless]

    @display(description=_("status"), ordering="status", label=STATUS_LABELS)
    def status_label(self, comment: Comment) -> tuple[str, str]:
        return comment.status, comment.get_status_display()

    @display(description=_("comment"))
    def said(self, comment: Comment) -> str:
        return Truncator(comment.content).chars(120)

    @display(description=_("post"), ordering="post")
    def post_link(self, comment: Comment) -> SafeString:
        url = reverse("admin:blog_post_change", args=[comment.post_id])
        return format_html('<a href="{}">{}</a>', url, comment.post)

    @action(description=_("Approve"), url_path="approve", permissions=["moderate"])
    def approve_one(self, request: HttpRequest, object_id: str) -> HttpResponse:
        text = _("Everybody sees it on the page of the post.")
        return self._moderate(request, object_id, CommentStatus.APPROVED, text)

    @action(
        description=_("Spam"),
        url_path="spam",
        permissions=["moderate"],
        variant=ActionVariant.DANGER,
    )
    def spam_one(self, request: HttpRequest, object_id: str) -> HttpResponse:
        text = _("Nobody sees it; it is kept here as spam.")
        return self._moderate(request, object_id, CommentStatus.SPAM, text)

    @action(description=_("Trash"), url_path="trash", permissions=["moderate"])
    def trash_one(self, request: HttpRequest, object_id: str) -> HttpResponse:
        text = _("Nobody sees it; it is kept here until somebody empties the trash.")
        return self._moderate(request, object_id, CommentStatus.TRASH, text)

    @action(
        description=_("Empty the trash"),
        url_path="empty-trash",
        icon="delete",
        permissions=["delete"],
        variant=ActionVariant.DANGER,
    )
    def empty_trash(self, request: HttpRequest) -> HttpResponse:
        page = reverse("admin:blog_comment_changelist")
        trash = Comment.objects.trashed()
        if not trash.exists():
            messages.info(request, _("The trash is empty."))
            return redirect(page)
        if not confirmed(request):
            question = Question(
                title=_("Empty the trash?"),
                text=_("What is in the trash is deleted for good, with the answers to it."),
                facts=[(_("In the trash"), digits(trash.count()))],
                submit=_("Empty the trash"),
                back=page,
                danger=True,
            )
            return ask(self, request, question)
        count = empty_trash(lambda batch: self.log_deletions(request, batch))
        text = ngettext("%(count)s comment is gone.", "%(count)s comments are gone.", count)
        messages.success(request, text % {"count": digits(count)})
        return redirect(page)

    def _moderate(
        self, request: HttpRequest, object_id: str, status: CommentStatus, text: Any
    ) -> HttpResponse:
        comment = get_object_or_404(Comment, pk=object_id)
        page = reverse("admin:blog_comment_change", args=[comment.pk])
        if not confirmed(request):
            question = Question(
                title=_("%(status)s: the comment of %(name)s?")
                % {"status": status.label, "name": comment.author_name},
                text=text,
                facts=[(_("Comment"), Truncator(comment.content).chars(500))],
                submit=status.label,
                back=page,
            )
            return ask(self, request, question)
        self._tell(request, Comment.objects.filter(pk=comment.pk), status)
        return redirect(page)

    @admin.action(description=_("Approve selected"), permissions=["moderate"])
    def approve_selected(self, request: HttpRequest, queryset: QuerySet[Comment]) -> None:
        self._tell(request, queryset, CommentStatus.APPROVED)

    @admin.action(description=_("Mark selected as spam"), permissions=["moderate"])
    def spam_selected(self, request: HttpRequest, queryset: QuerySet[Comment]) -> None:
        self._tell(request, queryset, CommentStatus.SPAM)

    @admin.action(description=_("Put selected into the trash"), permissions=["moderate"])
    def trash_selected(self, request: HttpRequest, queryset: QuerySet[Comment]) -> None:
        self._tell(request, queryset, CommentStatus.TRASH)

    def _tell(self, request: HttpRequest, queryset: Any, status: CommentStatus) -> None:
        def log(batch: list[Comment]) -> None:
            for comment in batch:
                self.log_change(request, comment, str(status.label))

        count = moderate(queryset, status, log)
        text = ngettext(
            "%(count)s comment is now: %(status)s.",
            "%(count)s comments are now: %(status)s.",
            count,
        )
        level: Callable[..., None] = messages.success if count else messages.warning
        level(request, text % {"count": count, "status": status.label})

"""Posts: written beside what they will look like, and seen to when they go out."""

from collections.abc import Callable
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import Count, F, Q, QuerySet
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, redirect
from django.template.loader import render_to_string
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import Truncator
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_POST
from unfold.admin import ModelAdmin
from unfold.contrib.filters.admin import RadioFilter
from unfold.decorators import action, display
from unfold.widgets import UnfoldAdminTextareaWidget

from domains.blog import services
from domains.blog.markdown import render
from domains.blog.models import CONTENT, CommentStatus, Post, PostQuerySet, PostStatus
from domains.blog.services import LINKED, InvalidTransition
from jobs.pages import Question, ask, confirmed, digits, tell_refused

STATES = {"draft": _("Draft"), "scheduled": _("Scheduled"), "published": _("Published")}
STATE_LABELS = {"draft": "default", "scheduled": "info", "published": "success"}
PUBLISH = "blog_post_publish_now"  # the button beside Save


def state_of(post: Post) -> str:
    if post.status == PostStatus.PUBLISHED:
        return "published"
    return "scheduled" if post.is_scheduled else "draft"


class MarkdownWidget(UnfoldAdminTextareaWidget):
    """A text area beside what its Markdown will look like."""

    def render(self, *args: Any, **kwargs: Any) -> SafeString:
        editor = super().render(*args, **kwargs)
        return render_to_string("admin/blog/post/markdown.html", {"editor": editor})

    def value_from_datadict(self, data: Any, files: Any, name: str) -> Any:
        """As it was stored: browsers send lines with CRLF, which alone is no change of a text."""
        value = super().value_from_datadict(data, files, name)
        return value.replace("\r\n", "\n") if value else value


class PostForm(forms.ModelForm):  # type: ignore[type-arg]
    class Meta:
        model = Post
        fields = "__all__"  # noqa: DJ007 (those of the fieldsets)
        widgets = {
            "content": MarkdownWidget({"rows": 20, "maxlength": CONTENT}),
            "excerpt": UnfoldAdminTextareaWidget({"rows": 3}),
            "meta_description": UnfoldAdminTextareaWidget({"rows": 2}),
            "og_description": UnfoldAdminTextareaWidget({"rows": 2}),
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if field := self.fields.get("published_at"):
            zone = timezone.get_current_timezone_name()
            field.help_text = f"{field.help_text} {_('Time zone:')} {zone}."


class StateFilter(RadioFilter):
    title = _("state")
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return list(STATES.items())

    def queryset(self, request: HttpRequest, queryset: PostQuerySet) -> PostQuerySet:
        of: dict[str | None, Callable[[], PostQuerySet]] = {
            "draft": lambda: queryset.filter(status=PostStatus.DRAFT, published_at=None),
            "scheduled": queryset.scheduled,
            "published": queryset.published,
        }
        return of.get(self.value(), lambda: queryset)()


@admin.register(Post)
class PostAdmin(ModelAdmin):
    form = PostForm
    list_display = (
        "state",
        "headline",
        "moment",
        "written_by",
        "said",
        "views",
        "stands_first",
    )
    list_display_links = ("headline",)
    list_filter = (StateFilter, "featured", "categories", "tags", "published_at")
    list_per_page = 25
    ordering = (F("published_at").desc(nulls_first=True), "-id")
    search_fields = ("title", "slug", "content")
    search_help_text = _("Title, slug or words")
    date_hierarchy = "published_at"
    compressed_fields = False
    warn_unsaved_form = True
    change_form_template = "admin/blog/post/compose.html"
    autocomplete_fields = ("categories", "tags", "featured_image", "og_image")
    actions = ("publish_selected", "withdraw_selected", "feature_selected", "unfeature_selected")
    actions_submit_line = ("publish_now",)
    actions_detail = ("view_one", "withdraw_one")
    fieldsets = (
        (None, {"fields": ("title", "content", "published_at")}),
        (
            _("Where it stands"),
            {"fields": ("categories", "tags", "featured_image", ("featured", "comments_open"))},
        ),
        (_("Address and excerpt"), {"fields": ("slug", "excerpt", "canonical_url")}),
        (
            _("Search engines"),
            {"classes": ["tab"], "fields": ("meta_title", "meta_description", "meta_keywords")},
        ),
        (
            _("When shared"),
            {"classes": ["tab"], "fields": ("og_title", "og_description", "og_image")},
        ),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Post]:
        queryset: QuerySet[Post] = super().get_queryset(request)
        return queryset.select_related("author")

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        """One query counts for the whole page."""
        changelist = super().get_changelist_instance(request)
        rows = list(changelist.result_list)
        counted = counts_of(rows)
        may_moderate = request.user.has_perm("blog.view_comment")
        for post in rows:
            post.counted = counted.get(post.pk, (0, 0))
            post.leads_to_comments = may_moderate
        changelist.result_list = rows
        return changelist

    # List

    @display(description=_("state"), ordering="status", label=STATE_LABELS)
    def state(self, post: Post) -> tuple[str, Any]:
        state = state_of(post)
        return state, STATES[state]

    @display(description=_("post"), ordering="title", header=True)
    def headline(self, post: Post) -> list[str]:
        return [post.title, Truncator(post.summary).chars(80)]

    @display(description=_("goes out / went out"), ordering="published_at")
    def moment(self, post: Post) -> str:
        if not post.published_at:
            return "–"
        return date_format(timezone.localtime(post.published_at), "SHORT_DATETIME_FORMAT")

    @display(description=_("author"), ordering="author__username")
    def written_by(self, post: Post) -> str:
        return (post.author.get_full_name() or post.author.username) if post.author else "–"

    @display(description=_("comments"))
    def said(self, post: Any) -> str:
        approved, pending = post.counted
        waits = _("%(count)s pending") % {"count": digits(pending)}
        url = f"{reverse('admin:blog_comment_changelist')}?post__id__exact={post.pk}"
        text = f"{digits(approved)} · {waits}" if pending else digits(approved)
        if not post.leads_to_comments:
            return text
        return format_html('<a href="{}">{}</a>', url, text)

    @display(description=_("views"), ordering="view_count")
    def views(self, post: Post) -> str:
        return digits(post.view_count)

    @display(description=_("featured"), ordering="featured")
    def stands_first(self, post: Post) -> Any:
        return _("Featured") if post.featured else "–"

    # Compose

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(require_POST(self.preview))
        return [path("preview/", view, name="blog_post_preview"), *super().get_urls()]

    def preview(self, request: HttpRequest) -> HttpResponse:
        if not (self.has_add_permission(request) or self.has_change_permission(request)):
            raise PermissionDenied
        content = request.POST.get("content", "")
        if len(content) > CONTENT:
            text = _("%(size)s characters; at most %(most)s are allowed.")
            return JsonResponse({"error": text % {"size": len(content), "most": CONTENT}})
        return JsonResponse({"html": render(content)})

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        context = extra_context or {}
        if object_id is None:  # unfold has such buttons only for what is there already
            context |= {"actions_submit_line": self.get_actions_submit_line(request, None)}
        try:
            response: HttpResponse = super().changeform_view(request, object_id, form_url, context)
        except InvalidTransition as error:
            messages.error(request, _("Not saved. %(error)s") % {"error": error})
            return redirect(request.path)
        return response

    def save_model(self, request: HttpRequest, obj: Post, form: Any, change: bool) -> None:
        if change:
            fields = set(form.changed_data) - LINKED
            services.edit(obj, **{name: form.cleaned_data[name] for name in fields})
        else:
            user: Any = request.user
            obj.author = user
            services.add(obj)

    def delete_model(self, request: HttpRequest, obj: Post) -> None:
        services.delete(obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Post]) -> None:
        for post in queryset:
            services.delete(post)

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        super().save_related(request, form, formsets, change)
        post: Post = form.instance
        if PUBLISH in request.POST and self._may_publish(request, post.pk):
            services.publish(post)
            self.log_change(request, post, str(_("Published")))
            messages.success(request, _("It is published: %(url)s") % {"url": post.address})
        elif post.is_scheduled and post.published_at:
            text = _("It goes out by itself on %(moment)s.")
            local = timezone.localtime(post.published_at)
            messages.info(request, text % {"moment": date_format(local, "DATETIME_FORMAT")})

    def get_actions_submit_line(self, request: HttpRequest, object_id: Any) -> list[Any]:
        if not self._may_publish(request, object_id):
            return []
        return list(super().get_actions_submit_line(request, object_id))

    def _may_publish(self, request: HttpRequest, pk: Any) -> bool:
        drafts = Post.objects.filter(pk=pk, status=PostStatus.DRAFT)
        return self.has_change_permission(request) and (pk is None or drafts.exists())

    @action(description=_("Save and publish"), icon="publish")
    def publish_now(self, request: HttpRequest, obj: Post) -> None:
        """`save_related` does it, when all that is written is saved."""

    # One

    def get_actions_detail(self, request: HttpRequest, object_id: Any) -> list[Any]:
        offered = super().get_actions_detail(request, object_id)
        is_draft = Post.objects.filter(pk=object_id, status=PostStatus.DRAFT).exists()
        return [button for button in offered if not (is_draft and button.path == "withdraw")]

    def has_steer_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return request.user.has_perm("blog.change_post")

    @action(description=_("See its page"), url_path="page", permissions=["view"])
    def view_one(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return redirect(get_object_or_404(Post, pk=object_id))

    @action(description=_("Withdraw"), url_path="withdraw", permissions=["steer"])
    def withdraw_one(self, request: HttpRequest, object_id: str) -> HttpResponse:
        post = get_object_or_404(Post, pk=object_id)
        page = reverse("admin:blog_post_change", args=[post.pk])
        if not confirmed(request):
            question = Question(
                title=_("Withdraw %(post)s?") % {"post": post},
                text=_("It leaves the pages and the feeds, and is a draft again."),
                submit=_("Withdraw"),
                back=page,
            )
            return ask(self, request, question)
        self._steer(request, [post], services.withdraw, _("Withdrawn"))
        return redirect(page)

    # Several

    @admin.action(description=_("Publish selected"), permissions=["steer"])
    def publish_selected(self, request: HttpRequest, queryset: QuerySet[Post]) -> None:
        self._steer(request, queryset.order_by("pk"), services.publish, _("Published"))

    @admin.action(description=_("Withdraw selected"), permissions=["steer"])
    def withdraw_selected(self, request: HttpRequest, queryset: QuerySet[Post]) -> None:
        self._steer(request, queryset.order_by("pk"), services.withdraw, _("Withdrawn"))

    @admin.action(description=_("Feature selected"), permissions=["steer"])
    def feature_selected(self, request: HttpRequest, queryset: QuerySet[Post]) -> None:
        self._feature(request, queryset, featured=True)

    @admin.action(description=_("Feature selected no more"), permissions=["steer"])
    def unfeature_selected(self, request: HttpRequest, queryset: QuerySet[Post]) -> None:
        self._feature(request, queryset, featured=False)

    def _feature(self, request: HttpRequest, queryset: QuerySet[Post], *, featured: bool) -> None:
        noted = _("Featured") if featured else _("Featured no more")

        def feature(post: Post) -> None:
            services.edit(post, featured=featured)

        self._steer(request, queryset.exclude(featured=featured), feature, noted)

    def _steer(
        self, request: HttpRequest, posts: Any, steer: Callable[[Post], None], noted: Any
    ) -> None:
        done = 0
        refused: list[str] = []
        for post in posts:
            try:
                steer(post)
            except InvalidTransition as error:
                refused.append(f"{post}: {error}")
            else:
                done += 1
                self.log_change(request, post, str(noted))
        tell_refused(request, refused)
        if done:
            text = ngettext("%(noted)s: %(count)s post.", "%(noted)s: %(count)s posts.", done)
            messages.success(request, text % {"noted": noted, "count": digits(done)})


def counts_of(posts: list[Post]) -> dict[int, tuple[int, int]]:
    """Of each, how many comments are approved and how many wait."""
    approved = Count("comments", filter=Q(comments__status=CommentStatus.APPROVED))
    pending = Count("comments", filter=Q(comments__status=CommentStatus.PENDING))
    these = Post.objects.filter(pk__in=[post.pk for post in posts]).order_by()
    counted = these.annotate(approved=approved, pending=pending)
    return {pk: (yes, no) for pk, yes, no in counted.values_list("pk", "approved", "pending")}

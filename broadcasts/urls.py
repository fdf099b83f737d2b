from django.urls import include, path
from rest_framework.routers import SimpleRouter

from broadcasts.api import readers
from broadcasts.api.operators import BroadcastViewSet
from broadcasts.api.preferences import Preferences
from broadcasts.api.rules import RuleMatchViewSet, RuleViewSet
from broadcasts.api.series import SeriesViewSet
from broadcasts.api.templates import TemplateViewSet

router = SimpleRouter(trailing_slash=False, use_regex_path=False)
router.register("broadcasts", BroadcastViewSet, basename="broadcast")
router.register("rules", RuleViewSet, basename="rule")
router.register("rule-matches", RuleMatchViewSet, basename="rule-match")
router.register("series", SeriesViewSet, basename="series")
router.register("templates", TemplateViewSet, basename="template")

urlpatterns = [
    path("admin/", include(router.urls)),
    path("user/messages", readers.Inbox.as_view(), name="messages"),
    path("user/messages/read", readers.Read.as_view(), name="messages-read"),
    path("user/messages/read-all", readers.ReadAll.as_view(), name="messages-read-all"),
    path("user/messages/ack-visibility", readers.AckVisibility.as_view(), name="messages-seen"),
    path("user/messages/acknowledge", readers.Acknowledge.as_view(), name="messages-acknowledge"),
    path("user/messages/dismiss", readers.Dismiss.as_view(), name="messages-dismiss"),
    path("user/preferences", Preferences.as_view(), name="user-preferences"),
]

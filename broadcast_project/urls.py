from django.contrib import admin
from django.contrib.auth.views import LogoutView
from django.urls import include, path, re_path
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerView

from broadcast_project import errors
from broadcast_project.metrics import metrics
from broadcasts import preference_views, views
from domains.links.views import follow

urlpatterns = [
    path("", views.inbox, name="inbox"),
    path("login", views.SignIn.as_view(), name="login"),
    path("logout", LogoutView.as_view(), name="logout"),
    path("preferences", preference_views.preferences, name="preferences"),
    path("unsubscribe/<str:token>", preference_views.unsubscribe, name="unsubscribe"),
    path("s/<slug:name>", follow, name="follow"),
    path("metrics", metrics, name="metrics"),
    path("", include("domains.blog.page_urls")),
    path("admin/", admin.site.urls),
    path("api/", include("broadcasts.urls")),
    path("api/admin/", include("jobs.urls")),
    path("api/admin/", include("outbox.urls")),
    path("api/admin/", include("deliveries.urls")),
    path("api/foodfolio/", include("domains.pantry.urls")),
    path("api/twitch/", include("domains.twitch.urls")),
    path("api/admin/", include("operations.urls")),
    path("api/admin/", include("operations.debezium.urls")),
    path("api/user/sse/", include("connections.urls")),
    path("api/blog/", include("domains.blog.urls")),
    path("api/warcraft/", include("domains.warcraft.urls")),
    path("api/", include("domains.links.urls")),
    path("api/schema", SpectacularAPIView.as_view(), name="schema"),
    path("api/docs", SpectacularSwaggerView.as_view(url_name="schema"), name="docs"),
    re_path(r"^api/", errors.no_such_address),
]

handler400 = errors.bad_request
handler403 = errors.permission_denied
handler404 = errors.not_found
handler500 = errors.server_error

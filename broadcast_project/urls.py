from django.contrib import admin
from django.contrib.auth.views import LogoutView
from django.urls import include, path

from broadcasts import views

urlpatterns = [
    path("", views.inbox, name="inbox"),
    path("login", views.SignIn.as_view(), name="login"),
    path("logout", LogoutView.as_view(), name="logout"),
    path("admin/", admin.site.urls),
    path("api/user/sse/", include("connections.urls")),
]

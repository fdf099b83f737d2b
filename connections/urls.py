from django.urls import path

from connections import api

urlpatterns = [
    path("token", api.TokenView.as_view(), name="sse-token"),
    path("disconnect", api.DisconnectView.as_view(), name="sse-disconnect"),
    path("connected/<str:user>", api.ConnectedView.as_view(), name="sse-connected"),
    path("stats", api.StatsView.as_view(), name="sse-stats"),
]

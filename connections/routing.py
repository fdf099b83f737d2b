from django.urls import path

from connections.consumers import StreamConsumer

urlpatterns = [
    path("api/user/sse/connect", StreamConsumer.as_asgi()),
    path("api/user/sse/connect/<str:held>", StreamConsumer.as_asgi()),  # asked by GRIP proxies
]

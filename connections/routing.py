from django.urls import path

from connections.consumers import StreamConsumer
from connections.feed import FeedConsumer

urlpatterns = [
    path("api/events/stream", FeedConsumer.as_asgi()),
    path("api/user/sse/connect", StreamConsumer.as_asgi()),
    path("api/user/sse/connect/<str:held>", StreamConsumer.as_asgi()),  # asked by GRIP proxies
]

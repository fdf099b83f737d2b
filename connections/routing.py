from django.urls import path

from connections.consumers import StreamConsumer

urlpatterns = [path("api/user/sse/connect", StreamConsumer.as_asgi())]

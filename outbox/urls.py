from django.urls import path

from outbox.api import DeadLetterViewSet, OutboxViewSet

dead_letters = DeadLetterViewSet.as_view

urlpatterns = [
    path("outbox", OutboxViewSet.as_view({"get": "health"}), name="outbox"),
    path("dlt/messages", dead_letters({"get": "list"}), name="dead-letters"),
    path("dlt/messages/<int:pk>", dead_letters({"get": "retrieve"}), name="dead-letter"),
    path("dlt/redrive/<int:pk>", dead_letters({"post": "redrive"}), name="dead-letter-redrive"),
    path("dlt/redrive-all", dead_letters({"post": "redrive_all"}), name="dead-letters-redrive"),
    path("dlt/purge/<int:pk>", dead_letters({"delete": "purge"}), name="dead-letter-purge"),
    path("dlt/purge-all", dead_letters({"delete": "purge_all"}), name="dead-letters-purge"),
]

"""What the API about streams answers."""

from rest_framework import serializers


class DisconnectSerializer(serializers.Serializer[dict[str, object]]):
    connection_id = serializers.UUIDField(
        help_text="One of your connections, as CONNECTED named it."
    )


class TokenRequestSerializer(serializers.Serializer[dict[str, object]]):
    user = serializers.CharField(
        required=False, max_length=150, help_text="A username; yours, if it is left out."
    )


class TokenSerializer(serializers.Serializer[dict[str, object]]):
    token = serializers.CharField(
        help_text="?token= of /api/user/sse/connect, or `Authorization: Bearer` of the user API."
    )
    expires_in = serializers.IntegerField(help_text="Seconds.")


class ConnectedSerializer(serializers.Serializer[dict[str, object]]):
    user = serializers.CharField()
    connected = serializers.BooleanField()
    connections = serializers.IntegerField()


class StatsSerializer(serializers.Serializer[dict[str, object]]):
    connections = serializers.IntegerField(help_text="Open streams on all nodes.")
    users = serializers.IntegerField(help_text="People with at least one.")
    nodes = serializers.DictField(child=serializers.IntegerField(), help_text="Streams by node.")
    node = serializers.CharField(help_text="The process that answers.")
    timestamp = serializers.DateTimeField()

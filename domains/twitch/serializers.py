"""What the API tells of Twitch, and takes."""

from typing import Any

from rest_framework import serializers

from domains.twitch.ingest import MOST_MESSAGES
from domains.twitch.models import ChannelViewer, Clip, Command, Message, Stream, Viewer


class ChannelField(serializers.RegexField):
    """As Twitch writes it, without `#`."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(r"^[a-z0-9_]{1,50}$", **kwargs)
        self.error_messages["invalid"] = "Write the login of the channel: letters, digits, _."

    def to_internal_value(self, data: Any) -> str:
        return str(super().to_internal_value(str(data).strip().removeprefix("#").lower()))


class StreamSerializer(serializers.ModelSerializer[Stream]):
    is_active = serializers.BooleanField(read_only=True)
    average_viewers = serializers.IntegerField(read_only=True)

    class Meta:
        model = Stream
        fields = [
            "id",
            "channel",
            "twitch_id",
            "title",
            "game_name",
            "game_id",
            "started_at",
            "ended_at",
            "last_activity_at",
            "is_active",
            "is_chat_only",
            "peak_viewers",
            "average_viewers",
            "total_messages",
        ]
        read_only_fields = [
            "channel",
            "twitch_id",
            "started_at",
            "ended_at",
            "last_activity_at",
            "is_chat_only",
            "peak_viewers",
            "total_messages",
        ]


class NewStreamSerializer(serializers.ModelSerializer[Stream]):
    channel = ChannelField()
    twitch_id = serializers.CharField(
        max_length=50, required=False, allow_null=True, help_text="Said again, nothing is new."
    )

    class Meta:
        model = Stream
        fields = ["channel", "twitch_id", "title", "game_name", "game_id", "started_at"]
        extra_kwargs = {"started_at": {"required": False}}


class ViewersSerializer(serializers.Serializer[Any]):
    viewers = serializers.IntegerField(min_value=0, max_value=100_000_000)


FLAGS = ["is_moderator", "is_subscriber", "is_vip", "is_broadcaster"]
SAID = ["user_id", "username", "display_name", "text", *FLAGS, "sent_at"]


class ChatMessageSerializer(serializers.ModelSerializer[Message]):
    class Meta:
        model = Message
        fields = ["id", "twitch_id", "stream", "channel", *SAID]


class NewChatMessageSerializer(serializers.ModelSerializer[Message]):
    id = serializers.CharField(
        source="twitch_id", max_length=64, help_text="Of Twitch: by it a message is known."
    )

    class Meta:
        model = Message
        fields = ["id", *SAID]


class ChatBatchSerializer(serializers.Serializer[Any]):
    channel = ChannelField()
    messages = NewChatMessageSerializer(many=True, max_length=MOST_MESSAGES, allow_empty=False)  # type: ignore[call-arg]


class IngestedSerializer(serializers.Serializer[Any]):
    stream = serializers.IntegerField(help_text="Where they were counted.")
    new = serializers.IntegerField()
    known = serializers.IntegerField(help_text="That had come before.")


class ViewerSerializer(serializers.ModelSerializer[Viewer]):
    class Meta:
        model = Viewer
        fields = [
            "id",
            "twitch_id",
            "username",
            "display_name",
            "total_messages",
            "first_seen_at",
            "last_seen_at",
        ]


class ChannelViewerSerializer(serializers.ModelSerializer[ChannelViewer]):
    viewer = ViewerSerializer()

    class Meta:
        model = ChannelViewer
        fields = [
            "id",
            "channel",
            "viewer",
            "is_moderator",
            "is_vip",
            "is_subscriber",
            "total_messages",
            "first_seen_at",
            "last_seen_at",
        ]


class BotCommandSerializer(serializers.ModelSerializer[Command]):
    class Meta:
        model = Command
        fields = [
            "id",
            "name",
            "response",
            "is_active",
            "moderator_only",
            "subscriber_only",
            "cooldown_seconds",
            "usage_count",
            "last_used_at",
        ]
        read_only_fields = ["usage_count", "last_used_at"]

    def update(self, instance: Command, validated_data: dict[str, Any]) -> Command:
        """These fields alone: how often it was used meanwhile stays."""
        for name, value in validated_data.items():
            setattr(instance, name, value)
        instance.save(update_fields=list(validated_data))
        return instance


class CallSerializer(serializers.Serializer[Any]):
    name = serializers.CharField(help_text="With or without `!`.")
    channel = ChannelField()
    user = serializers.CharField(max_length=100, help_text="Who calls, as the answer names them.")
    is_moderator = serializers.BooleanField(default=False)
    is_subscriber = serializers.BooleanField(default=False)
    is_broadcaster = serializers.BooleanField(default=False)


class AnswerSerializer(serializers.Serializer[Any]):
    answer = serializers.CharField()


class ClipSerializer(serializers.ModelSerializer[Clip]):
    channel = ChannelField()
    twitch_clip_id = serializers.CharField(max_length=200)  # known ones are brought up to date

    class Meta:
        model = Clip
        fields = [
            "id",
            "twitch_clip_id",
            "channel",
            "stream",
            "title",
            "url",
            "creator_name",
            "view_count",
            "duration_seconds",
            "created_at",
        ]

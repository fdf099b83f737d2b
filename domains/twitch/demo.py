"""A channel for a first look: a stream that runs, some that are over, and their chat."""

from datetime import datetime, timedelta
from typing import Any

from django.utils import timezone

from domains.twitch.ingest import ingest
from domains.twitch.models import Clip, Command, Message, Stream
from domains.twitch.services import count_viewers, end, start

CHANNEL = "toast_kitchen"
PEOPLE = ["crumb", "marmalade", "RyeAndShine", "butterknife", "sourdough_sam"]
LINES = [
    "Good evening!",
    "What is in the oven today?",
    "!recipe",
    "That crust looks perfect. I never get mine as even; do you turn the loaf half-way through, "
    "or is the oven simply better than the one that came with my flat?",
    "How long does the dough rest?",
    "Clip that!",
]
COMMANDS: list[dict[str, Any]] = [
    {"name": "recipe", "response": "Hello {user}, the recipe is on example.org/bread."},
    {"name": "toast", "response": "{user} gets slice number {count}.", "cooldown_seconds": 30},
    {"name": "oven", "response": "220 °C.", "subscriber_only": True},
    {"name": "hush", "response": "Quiet please in {channel}.", "moderator_only": True},
]


def create() -> bool:
    """Make what is missing; False when there is a stream already."""
    if Stream.objects.real().exists():
        return False
    now = timezone.now()
    for days, title in ((2, "Rye, rested overnight"), (1, "Croissants: the long way")):
        begun = now - timedelta(days=days)
        stream, _is_new = start(
            CHANNEL, f"demo-{days}", title=title, game_name="Food & Drink", started_at=begun
        )
        _chat(f"d{days}", begun)
        count_viewers(stream, 40 * days)
        over = begun + timedelta(hours=2)
        end(stream, over)
        Stream.objects.filter(pk=stream.pk).update(last_activity_at=over)  # nothing came since
    _chat("offline", now - timedelta(hours=3))
    live, _is_new = start(
        CHANNEL,
        "demo-0",
        title="Sourdough, live from the oven",
        game_name="Food & Drink",
        started_at=now - timedelta(hours=1),
    )
    _chat("live", now - timedelta(minutes=40))
    for viewers in (31, 58, 47):
        count_viewers(live, viewers)
    Clip.objects.get_or_create(
        twitch_clip_id="demo-crust",
        defaults={
            "channel": CHANNEL,
            "stream": live,
            "title": "The crust, up close",
            "url": "https://clips.twitch.tv/demo-crust",
            "creator_name": PEOPLE[0],
            "view_count": 128,
            "duration_seconds": 28.5,
            "created_at": now - timedelta(minutes=20),
        },
    )
    for fields in COMMANDS:
        Command.objects.get_or_create(name=fields["name"], defaults=fields)
    return True


def _chat(name: str, begun: datetime) -> None:
    messages = [
        Message(
            twitch_id=f"demo-{name}-{number}",
            user_id=str(1_000 + number % len(PEOPLE)),
            username=PEOPLE[number % len(PEOPLE)].lower(),
            display_name=PEOPLE[number % len(PEOPLE)],
            text=LINES[number % len(LINES)],
            is_moderator=number % len(PEOPLE) == 0,
            is_subscriber=number % len(PEOPLE) == 3,
            sent_at=begun + timedelta(seconds=40 * number),
        )
        for number in range(14)
    ]
    ingest(CHANNEL, messages)

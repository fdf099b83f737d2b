from django.db import migrations
from django.utils import timezone


def create(apps, schema_editor):
    """The stream of what is said while nobody streams."""
    now = timezone.now()
    apps.get_model("twitch", "Stream").objects.using(schema_editor.connection.alias).get_or_create(
        is_chat_only=True,
        defaults={"title": "Chat-Only", "started_at": now, "last_activity_at": now},
    )


class Migration(migrations.Migration):
    dependencies = [("twitch", "0001_initial")]
    operations = [migrations.RunPython(create, migrations.RunPython.noop)]

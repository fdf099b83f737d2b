from django.db import migrations

from broadcast_project import roles


def grant(apps, schema_editor):
    roles.grant(apps, schema_editor.connection.alias)


class Migration(migrations.Migration):

    dependencies = [
        ('auth', '0012_alter_user_first_name_max_length'),
        ('blog', '0001_initial'),
        ('broadcasts', '0010_rules'),
        ('contenttypes', '0002_remove_content_type_name'),
        ('jobs', '0002_job_counters'),
        ('links', '0001_initial'),
        ('operations', '0004_connectors'),
        ('pantry', '0001_initial'),
        ('twitch', '0002_chat_only'),
        ('warcraft', '0001_initial'),
    ]

    operations = [migrations.RunPython(grant, migrations.RunPython.noop)]

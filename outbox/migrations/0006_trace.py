import jobs.correlation
import jobs.tracing
from django.db import migrations, models


def columns(**options):
    return [
        migrations.AddField(
            model_name='event',
            name='correlation_id',
            field=models.CharField(blank=True, default=jobs.correlation.inherited_id, editable=False, max_length=64, verbose_name='correlation id', **options),
        ),
        migrations.AddField(
            model_name='event',
            name='traceparent',
            field=models.CharField(blank=True, default=jobs.tracing.traceparent, editable=False, max_length=55, verbose_name='trace', **options),
        ),
    ]


class Migration(migrations.Migration):

    dependencies = [
        ('outbox', '0005_publication'),
    ]

    # The database has a default, for processes of before that write while this is rolled out. The
    # model knows of none: with one, Django would read the column back at each insert.
    operations = [
        migrations.SeparateDatabaseAndState(
            database_operations=columns(db_default=''), state_operations=columns()
        ),
    ]

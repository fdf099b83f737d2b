from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("outbox", "0001_initial")]

    operations = [
        migrations.RenameModel("RelayLease", "LeaderLease"),
        migrations.AlterModelOptions(
            "LeaderLease",
            {"verbose_name": "leader lease", "verbose_name_plural": "leader leases"},
        ),
    ]

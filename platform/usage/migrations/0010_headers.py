from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("usage", "0009_database_size")]

    operations = [
        migrations.AddField(
            model_name="usagerecord",
            name="headers",
            field=models.TextField(
                help_text="of the request: which client it was, and what it wanted", null=True
            ),
        ),
    ]

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('usage', '0004_idempotency'),
    ]

    operations = [
        migrations.AddField(
            model_name='usagerecord',
            name='cache_write_tokens',
            field=models.BigIntegerField(default=0),
        ),
    ]

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('tenants', '0003_limits_and_quotas'),
    ]

    operations = [
        migrations.AddField(
            model_name='tenant',
            name='allow_house_fallback',
            field=models.BooleanField(default=False, help_text="Let a call that failed with the tenant's own credential go on with ours."),
        ),
    ]

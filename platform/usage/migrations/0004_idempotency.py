from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('usage', '0003_rollups'),
    ]

    operations = [
        migrations.CreateModel(
            name='IdempotentCall',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('tenant_id', models.BigIntegerField()),
                ('mode', models.CharField(max_length=4)),
                ('key', models.CharField(help_text='SHA-256 of what the client sent', max_length=64)),
                ('fingerprint', models.CharField(help_text='SHA-256 of what was asked', max_length=64)),
                ('request_id', models.CharField(max_length=36)),
                ('state', models.CharField(choices=[('running', 'Running'), ('answered', 'Answered'), ('lost', 'Lost')], default='running', max_length=8)),
                ('running_until', models.DateTimeField()),
                ('expires_at', models.DateTimeField(db_index=True)),
                ('status', models.PositiveSmallIntegerField(default=0)),
                ('headers', models.JSONField(default=list)),
                ('body', models.BinaryField(default=b'')),
            ],
            options={
                'constraints': [models.UniqueConstraint(fields=('tenant_id', 'mode', 'key'), name='idempotency_key')],
            },
        ),
    ]

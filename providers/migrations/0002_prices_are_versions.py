from django.db import migrations


class Migration(migrations.Migration):

    dependencies = [
        ('providers', '0001_initial'),
        ('billing', '0002_first_versions'),
    ]

    operations = [
        migrations.RemoveField(model_name='model', name='cached_input_price'),
        migrations.RemoveField(model_name='model', name='input_price'),
        migrations.RemoveField(model_name='model', name='output_price'),
    ]

"""The prices that models had become their first version, and data providers', which had none
and were free, become free ones. They hold from the beginning of time, so that whatever is in
the ledger has a price."""

import datetime as dt

from django.db import migrations

BEGINNING = dt.datetime(1970, 1, 1, tzinfo=dt.timezone.utc)


def make_first_versions(apps, schema_editor):
    Price = apps.get_model("billing", "Price")
    Model = apps.get_model("providers", "Model")
    Provider = apps.get_model("providers", "Provider")
    Revision = apps.get_model("lib", "Revision")
    versions = [
        Price(
            provider_id=model.provider_id,
            model_id=model.model_id,
            effective_from=BEGINNING,
            input=model.input_price,
            output=model.output_price,
            cached_input=model.cached_input_price,
            source=model.source,
            note="the price the model had",
        )
        for model in Model.objects.exclude(input_price=None, output_price=None)
    ]
    versions += [
        Price(
            provider_id=provider.pk,
            effective_from=BEGINNING,
            unit=0,
            source=provider.source,
            note="free, as before",
        )
        for provider in Provider.objects.filter(adapter="manifest")
    ]
    Price.objects.bulk_create(versions)
    if versions:
        revision, _ = Revision.objects.get_or_create(topic="routing")
        revision.number += 1
        revision.save()


class Migration(migrations.Migration):
    dependencies = [
        ("billing", "0001_prices"),
        ("lib", "0001_initial"),
        ("providers", "0001_initial"),
    ]

    operations = [migrations.RunPython(make_first_versions, migrations.RunPython.noop)]

"""Configuration as code: one declarative file beside the admin (docs/configuration.md).

document.py reads and checks the file; run.py compares and writes rows; providers.py, routes.py
and tenants.py know their sections; exporting.py writes the file from the database. catalogue.py
and demo.py bring in what ships with Patchbay.
"""

"""What the admin's home and the dashboard API show: how the service is, and how it did."""

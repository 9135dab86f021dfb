"""Certificates of the gateway: which one a browser is shown."""

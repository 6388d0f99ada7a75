"""Checkout: sessions and payment links that a customer pays outside the API."""

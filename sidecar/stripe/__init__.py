"""Stripe: how its requests are read, priced and judged, and how its SDKs are told no."""

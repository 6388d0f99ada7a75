"""A fake of api.stripe.com: Stripe's rules for what moves money and for idempotency, held in memory.

It runs as a process of its own (`python -m stripe_simulator`), so a test, a demo or a benchmark talks to it
over HTTP exactly as it would to Stripe.
"""

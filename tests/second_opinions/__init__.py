"""Other people's emulators of Stripe, as second opinions beside our own simulator."""

"""Twilio's messages: how their requests are read, what they cost, and how its SDKs are told no."""

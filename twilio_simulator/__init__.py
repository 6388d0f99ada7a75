"""A fake of api.twilio.com: messages, their states and their late prices, held in memory.

It runs as a process of its own (`python -m twilio_simulator`), so a test or a demo talks to it over HTTP
exactly as it would to Twilio.
"""

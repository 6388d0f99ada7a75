"""Seeded histories of agents, sidecars, policy servers, Redis and Stripe, in which anything may break.

Everything but Redis lives in one process, on an event loop whose time is made up and whose order is drawn
from the seed: a seed tells the same history every time.
"""

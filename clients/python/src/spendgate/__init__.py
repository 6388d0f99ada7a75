"""Spendgate, the spend policy between AI agents and Stripe: its contract, client and command."""

"""Funds: money between the account and its bank, other accounts, and what customers are owed."""

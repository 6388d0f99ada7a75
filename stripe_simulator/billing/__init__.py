"""Billing: invoices and their items, subscriptions, quotes and credit notes."""

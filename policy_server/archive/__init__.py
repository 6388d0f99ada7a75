"""The audit archive: a database of every audit event, chained by hashes and signed."""

"""JSON without spaces, from one encoder: making an encoder anew for each answer costs more than using it."""

import json

compact_json = json.JSONEncoder(separators=(",", ":")).encode
"""The document as one line of ASCII."""

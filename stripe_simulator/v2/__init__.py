"""Version 2 of the API: JSON both ways, its own lists and its own rules for repeats."""

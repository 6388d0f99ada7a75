"""Measures the whole path of a request beside a bare proxy: ``python -m bench``."""

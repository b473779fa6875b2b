"""Phoenix: everything that it decides, and runs on hosts."""

__version__ = "0.9.0"

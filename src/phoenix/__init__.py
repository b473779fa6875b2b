"""Phoenix: its decisions, and the programs that run on its hosts."""

__version__ = "0.19.0"

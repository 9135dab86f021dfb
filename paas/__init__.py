"""The platform on which every program is a supervised actor."""

__version__ = "0.1.0"

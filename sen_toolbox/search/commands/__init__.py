"""Subcommands of ``sen-search``, one per module."""

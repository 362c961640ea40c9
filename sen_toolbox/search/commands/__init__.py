"""Subcommands of ``sen-search``, one a module."""

"""Serving ACP clients: the door, runs, sessions."""

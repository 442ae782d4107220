"""Serving A2A clients: the doors and what answers there."""

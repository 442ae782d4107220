"""Calling ACP agents."""

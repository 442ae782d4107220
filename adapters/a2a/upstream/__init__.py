"""Calling A2A agents: cards, interfaces, channels."""

"""agentgw: the gateway through which any client reaches any agent."""

__version__ = "0.1.0"

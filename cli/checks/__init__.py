"""What ``agentgw doctor`` looks at: each module has checks, which take the facts and yield what they find."""

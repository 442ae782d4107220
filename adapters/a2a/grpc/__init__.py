"""A2A over gRPC: the optional extra ``agentgw[grpc]``. Nothing here is imported before it is asked for."""

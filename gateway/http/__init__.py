"""The HTTP service: requests and answers for the doors, dispatch, checks, the control plane."""

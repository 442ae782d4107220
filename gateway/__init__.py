"""The hub: canonical model, task life cycle, engine, HTTP service, telemetry. Imports no sibling."""

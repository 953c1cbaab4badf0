"""The Kubernetes API as plain dicts: what the operator and the front door both need of it."""

"""The engine: one model, one process, HTTP. It knows nothing of Kubernetes."""

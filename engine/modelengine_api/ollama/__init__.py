"""The Ollama API, translated to the native protocol and back: `routes.py` speaks HTTP, all else here is pure."""

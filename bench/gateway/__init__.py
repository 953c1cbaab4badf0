"""The front door beside Go's reverse proxy and a FastAPI proxy: what a part of a stream and a request cost in each."""

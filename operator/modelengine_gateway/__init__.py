"""The front door on port 9527: the name server, and a way to every engine it knows."""

"""The HTTP surface that an engine and the front door share: envelopes, limits, streams, running a server."""

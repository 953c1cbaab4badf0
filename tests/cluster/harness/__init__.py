"""A real Kubernetes on this machine, in a network of its own: for the tests beside it, and for `make cluster`.

Linux and root are needed. What is missing is an error that says what to install, never a reason to skip.
"""

"""For all tests: no example of hypothesis is against the clock, because speed is measured in `bench/` alone."""

from hypothesis import settings

settings.register_profile("no clock", deadline=None)
settings.load_profile("no clock")

"""What stock torch is slow or inexact at, in C++: paged attention, linear layers, and the small steps between.

Compiled when the package is installed, where there is a compiler; `library.load` finds what suits this processor.
"""

"""Processes that are lost in the middle of a conversation: shared by the quick and the long tests.

``peer.py`` is the one that is lost, bare and without the library; ``talk.py`` what the library's
side does meanwhile, and ``matrix.py`` brings them together.
"""

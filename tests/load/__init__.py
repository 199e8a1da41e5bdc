"""Much of everything: messages, handles and children by the million, the ten thousand and the
hundred, peers that stop, peers that are hostile; and what must not grow by it.

`tests.soak.load` has the long forms, ``tests/test_load.py`` the short ones.
"""

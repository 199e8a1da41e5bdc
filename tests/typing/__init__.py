"""What type checkers are to say about programs that use the package.

Nothing here is run: mypy and pyright read it, see the `types` environment in tox.ini. Every line of
`passes.py` must pass. Every line of `fails.py` that carries comments to ignore errors must fail,
in both, by the rules that the comments name: a comment that ignores nothing is an error itself.
"""

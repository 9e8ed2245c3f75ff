"""Other ways to train a model that names and boxes one object, for `benchmarks.accuracy`: each takes a `Job` and gives
`Answers`. Nothing of onebox itself imports this package.
"""

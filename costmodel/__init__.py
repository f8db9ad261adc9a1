"""The learned cost model: features, fits, predictions with uncertainty, and its quality metrics.

It predicts ``log(time / bound)``, so that 0 is the roof and one unit a factor e, on every device and shape.
"""

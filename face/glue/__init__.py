"""NumPy between the kernels of a model: nodes as calls on fixed arrays. ``dispatch.prepare`` makes them;
one file for each kind of operator, each with a table of makers."""

"""Static memory planning: buffers with lifetimes get offsets in one arena, for scratchpads and for host arenas.

``buffers`` says what is planned, ``plan`` plans it, ``search`` and ``exact`` are the two solvers behind it.
"""

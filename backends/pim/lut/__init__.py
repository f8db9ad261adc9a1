"""A cache that multiplies by table look-up, as SAIL describes it: model, mapping, pattern reuse; see docs/pim.md."""

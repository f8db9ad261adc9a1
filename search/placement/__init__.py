"""Which device runs which operator: ``work`` lists operators, ``costs`` asks devices, ``assign`` decides,
``interleave`` overlaps two devices. Simulated devices are reached through ``Backend.simulate`` alone."""

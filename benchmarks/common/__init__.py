"""What several benchmarks share: the record, ratios, label maps, the official model, rooflines.

The programs of benchmarks/ and tests may import these modules. They may import the kit.
"""

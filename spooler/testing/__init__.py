"""The test kit: contract suites and fakes for authors of storages and devices.

Shipped with the package and never imported by it. Needs pytest.
"""

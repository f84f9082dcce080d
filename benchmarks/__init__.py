"""Figures of spooler beside sqooler and a bare loop, as ratios: `python -m benchmarks --help`.

A harness, not a test: nothing here passes or fails by time. docs/benchmarks.md is its output.
"""

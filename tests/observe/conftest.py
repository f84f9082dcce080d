import logging

import pytest
import structlog


@pytest.fixture(autouse=True)
def as_it_was():
    """Logging is set up for the whole process: put back what was there before."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()

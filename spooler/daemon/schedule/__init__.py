"""When a device works: polls, windows and calibrations."""

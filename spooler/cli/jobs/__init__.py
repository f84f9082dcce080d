"""The commands of those who submit jobs, and ask about them."""

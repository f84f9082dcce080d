"""The claims that this process holds, and those that dead ones left."""

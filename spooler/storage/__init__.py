"""Where jobs live: one folder per ecosystem."""

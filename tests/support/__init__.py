"""What several test modules share: an agent in memory, a directory around it."""

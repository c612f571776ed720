"""Where results may not go."""

"""What several unit tests need."""

"""What several tests use to test with."""

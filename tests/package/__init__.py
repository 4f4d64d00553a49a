"""The project as it is shipped: built, installed into environments of its own, and used there."""

"""Items to and from other machines, by way of an engine: a Redis or Valkey server."""

# SPDX-License-Identifier: GPL-2.0-or-later
"""Items to and from other machines, by way of an engine: a Redis or Valkey server."""

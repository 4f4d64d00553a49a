# SPDX-License-Identifier: GPL-2.0-or-later
"""Judges a script, a definitions file or a kamailio.cfg before a server reads it. Nothing that it reads is executed."""

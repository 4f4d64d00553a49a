# SPDX-License-Identifier: GPL-2.0-or-later
"""The running Kamailio. Only the modules of this package know KSR and the server's C symbols."""

# SPDX-License-Identifier: GPL-2.0-or-later
"""Makes api.json and the stub package KSR-stubs from the Kamailio that is installed: python3 -m kemi.testing.stubgen.

One server is started for each module, because app_python3 holds 1024 functions at most and all modules have more. What
a server lists (app_python.api_list) is checked against dir(KSR) in it, and against the core's own tables. Names of
arguments and a line of description come from the modules' README files.
"""

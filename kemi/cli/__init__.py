# SPDX-License-Identifier: GPL-2.0-or-later
"""The command line: `python3 -m mqueue_kemi`, or `mqueue-kemi` when installed. Standard library only.

`main` parses and turns what happened into an exit code; a command is a function that takes its `Call`.
"""

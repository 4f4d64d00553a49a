# SPDX-License-Identifier: GPL-2.0-or-later
"""What this process fetched last from each queue: the item behind $mqk, $mqv and mqk_get, mqv_get.

One slot for each queue, in this process only. A fetch fills it or empties it, mq_pv_free empties it.
"""

from __future__ import annotations

# Queue name → record of the item, or None.
fetched: dict[str, bytes | None] = {}

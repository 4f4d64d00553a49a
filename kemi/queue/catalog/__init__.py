# SPDX-License-Identifier: GPL-2.0-or-later
"""What segments say of queues and instances: owners, quota, shutdown policy; and a look at them without a lock."""

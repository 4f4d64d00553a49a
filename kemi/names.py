# SPDX-License-Identifier: GPL-2.0-or-later
"""What every part must call the same, and what nothing needs to be imported for."""

from __future__ import annotations

VERSION = "0.1.0"  # the one place: pyproject.toml reads it here, without an import
DEFAULT_INSTANCE = "kamailio"
INSTANCE_VARIABLE = "MQUEUE_KEMI_INSTANCE"
OWNER_VARIABLE = "MQUEUE_KEMI_OWNER"
ANSWERS_ROUTE = "ksr_mqueue_answers"  # what rtimer calls to let transactions go on; mod_init puts it into the script
DB_URL_VARIABLE = "MQUEUE_KEMI_DB_URL"
ENGINE_USER_VARIABLE = "MQUEUE_KEMI_ENGINE_USER"
ENGINE_PASSWORD_VARIABLE = "MQUEUE_KEMI_ENGINE_PASSWORD"  # noqa: S105 - a variable's name
RELAY_METRICS_VARIABLE = "MQUEUE_KEMI_RELAY_METRICS"
KERNEL_VARIABLE = "MQUEUE_KEMI_KERNEL"

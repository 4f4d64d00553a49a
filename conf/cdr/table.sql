-- SPDX-License-Identifier: 0BSD
CREATE TABLE IF NOT EXISTS cdr (
    call_id text PRIMARY KEY,
    caller  text NOT NULL,
    callee  text NOT NULL,
    at      timestamptz NOT NULL,
    item    text NOT NULL
);

# SPDX-License-Identifier: GPL-2.0-or-later
"""What to do about what a database refuses, looked up by its reason."""

from __future__ import annotations

import re

NO_NUMBER = re.compile(
    r"maximum value of sequence|integer out of range|for key '(\S+\.)?PRIMARY'|auto-?increment value"
    r"|out of range value for column 'id'|duplicate key value .*pkey|UNIQUE constraint failed: \S+\.id\b",
    re.IGNORECASE,
)
_NO_ID = (
    r"null value in column \"id\"|field 'id' doesn't have a default|NOT NULL constraint failed: \S+\.id\b"
    r"|null value in column.*\Wid\W"
)
# What a code means. A server's reasons may be in any language, MySQL's until it is told which.
_MEANING: dict[object, str] = {
    "22001": "too long",
    "22003": "integer out of range",
    "2200H": "maximum value of sequence",
    "22021": "invalid byte sequence",
    "22P05": "no equivalent in encoding",
    "23502": "null value in column",
    "23503": "foreign key",
    "23505": "duplicate key value",
    "23514": "check constraint",
    "23P01": "exclusion constraint",
    "25006": "read-only transaction",
    "3D000": "unknown database",
    "3F000": "no schema has been selected",
    "42501": "a right is missing",
    "53100": "disk is full",
    "53300": "too many connections",
    "55P03": "lock timeout",
    "57014": "statement timeout",
    "57P01": "terminating connection",
    1040: "too many connections",
    1044: "access denied",
    1045: "access denied",
    1049: "unknown database",
    1698: "access denied",
}
# What to do, by what is found in the reason and the meaning of its code, in any case; the first counts. {user} is
# db_url's.
_ADVICE = (
    (
        r"within db_timeout",
        'raise modparam("mqueue", "db_timeout", ...), and for a stop TimeoutStopSec of the service with it',
    ),
    (
        r"database is locked|lock wait timeout|lock timeout|deadlock|could not serialize|record has changed",
        "another process is using it; try again when it has ended",
    ),
    (
        r"statement timeout|max_statement_time",
        "let the user of db_url have more time for a statement there; or raise db_timeout",
    ),
    (
        r"too many connections|max_user_connections|connection slots|too many clients|connection limit exceeded",
        "it has no connection left: have it allow more, or find who holds them",
    ),
    (r"_per_hour", "let the user of db_url do more in an hour, without a limit at best"),
    (r"account is locked|not permitted to log in", "let the user of db_url log in there: unlock the account"),
    (r"set password|password has expired", "give the user of db_url a new password, one that does not expire"),
    (r"file name too long", "the server makes a file of that name: give the queue a shorter one"),
    (r"init_connect", "correct init_connect of that server"),
    (
        r"insecure transport|no encryption|ssl off|requires? (a )?secure|ssl connection is required",
        'the server demands TLS: modparam("mqueue", "db_tls", "on"), or "verify"',
    ),
    (r"certificate (has )?expired|not yet valid", "renew the certificate of the database's server; is the time right?"),
    (
        r"(hostname|ip address) mismatch|does not match host name|doesn't match",
        "write the host in db_url as the certificate has it, or give the server one for that name",
    ),
    (
        r"certificate verify failed|self.signed certificate|root certificate|server certificate",
        "name the file with the certificate of the authority that signed the server's in db_tls; or has it expired?",
    ),
    (
        r"does not support ssl|ssl is required, but|doesn't support ssl|server does not support",
        "set up TLS at the database's server, or set db_tls to off",
    ),
    (
        r"read.only (mode|option|transaction)|--read-only|super.read.only|read_only",
        "that server only reads, as a replica does: name the one that writes in db_url",
    ),
    (r"permission denied for sequence (?P<what>\S+)", 'GRANT USAGE ON SEQUENCE {what} TO "{user}"'),
    (
        r"(select|insert|delete|update|create|execute) command denied",
        "GRANT {1} ON the table TO the user of db_url; a table that is not there it makes with CREATE",
    ),
    (r"permission denied for schema (?P<what>\S+)", 'GRANT USAGE, CREATE ON SCHEMA {what} TO "{user}"'),
    (r"no schema has been selected", 'GRANT USAGE, CREATE ON SCHEMA public TO "{user}", or name a schema in its path'),
    (r"permission denied for database (?P<what>\S+)", 'GRANT CONNECT ON DATABASE {what} TO "{user}"'),
    (
        r"permission denied for (table|relation|view) (?P<what>\S+)",
        'GRANT SELECT, INSERT, DELETE ON {what} TO "{user}"',
    ),
    (r"row-level security", 'have a policy there let user "{user}" read, write and delete every row'),
    (
        r"a right is missing",
        'let user "{user}" USE its schema and the sequence, and SELECT, INSERT and DELETE in the table',
    ),
    (
        r"access denied|authentication failed|no password supplied|no pg_hba.conf entry",
        "check user and password of db_url, and what this host may do there; if the account demands TLS, set db_tls",
    ),
    (r"unknown database|database .* does not exist", "create the database, or correct db_url"),
    (r"'cryptography' package", "install python3-cryptography (pip: cryptography), or change how the user logs in"),
    (r"max_allowed_packet", "raise max_allowed_packet of the server"),
    (
        NO_NUMBER.pattern,
        "column id has no number left, or its automatic ones are behind the rows: make it BIGINT, and correct them",
    ),
    (
        _NO_ID,
        "give column id automatic numbers",
    ),
    (
        r"null value in column|doesn't have a default value|NOT NULL constraint failed",
        "give that column a default value, or take it out of the table",
    ),
    (
        r"duplicate entry|duplicate key value|unique constraint",
        "drop the unique index: items may be equal to others",
    ),
    (
        r"generated column|non-DEFAULT value|insertable-into|join view|cannot (insert into|change) .*view|it is a view",
        "take a plain table with plain columns, or a view that can be written to",
    ),
    (r"exclusion constraint", "drop that constraint: items may be equal to others"),
    (r"foreign key", "drop the foreign key: items have any key and value"),
    (r"no partition", "have a partition for every item"),
    (r"check constraint|constraint .* failed for", "drop the CHECK that refuses items"),
    (
        r"too long|data truncated|incorrect string value|no equivalent in encoding|invalid byte sequence",
        "change the column so that it takes the item",
    ),
    (
        r"readonly database|read-only|unable to open|permission denied",
        "the file and its folder must be writable for the user as whom the server runs{runs_as}",
    ),
    (r"disk is full|no space left|is full", "make room there"),
    (r"not a database|malformed", "db_url names a file that is no sqlite database, or is damaged; move it away"),
    (
        r"can't connect|refused|timed out|timeout|gone away|lost connection|connection|terminating|could not translate",
        "the database must run and be reachable from this host",
    ),
)


def find(reason: str, code: object, names: dict[str, str]) -> str:
    """What to do; "" where nothing better is known. names: what the texts below have in braces."""
    told = f"{_MEANING.get(code, '')} {reason}"
    for pattern, text in _ADVICE:
        if found := re.search(pattern, told, re.IGNORECASE):
            return text.format(found[0], found[0].split()[0].upper(), **{**names, **found.groupdict()})
    return ""

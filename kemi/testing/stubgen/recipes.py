# SPDX-License-Identifier: GPL-2.0-or-later
"""What a module needs to start on a machine where nothing is set up: other modules, parameters, tables.

Only what is needed to see it run; a module that needs a service or hardware has no recipe, and the generator says what
it said.
"""

from __future__ import annotations

import contextlib
import glob
import os
import sqlite3

BASE = ("kex", "tm", "sl", "rr", "pv", "xlog", "textops", "siputils", "maxfwd")

# Modules that read or write tables, and the parameters that name the database.
_DB = "sqlite:///{folder}/db"
_WITH_TABLES: dict[str, tuple[str, ...]] = {
    "alias_db": ("db_url",),
    "auth_db": ("db_url",),
    "cfg_db": ("db_url",),
    "dialplan": ("db_url",),
    "domain": ("db_url",),
    "domainpolicy": ("db_url",),
    "drouting": ("db_url",),
    "group": ("db_url",),
    "imc": ("db_url",),
    "lcr": ("db_url",),
    "msilo": ("db_url",),
    "mtree": ("db_url",),
    "p_usrloc": ("default_db_url",),
    "pdt": ("db_url",),
    "prefix_route": ("db_url",),
    "presence": ("db_url",),
    "presence_xml": ("db_url",),
    "pua": ("db_url",),
    "rls": ("db_url",),
    "sca": ("db_url",),
    "secfilter": ("db_url",),
    "sipcapture": ("db_url",),
    "siptrace": ("db_url",),
    "speeddial": ("db_url",),
    "topos": ("db_url",),
    "uri_db": ("db_url",),
    "userblocklist": ("db_url",),
    "xcap_client": ("db_url",),
    "xcap_server": ("db_url",),
}

# Module → what it needs besides BASE, in the order of loading.
DEPENDS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(_WITH_TABLES, ("db_sqlite",)),
    "acc_diameter": ("acc",),
    "acc_json": ("acc", "jansson"),
    "acc_radius": ("acc",),
    "app_lua_sr": ("app_lua",),
    "auth_db": ("db_sqlite", "auth"),
    "cnxcc": ("dialog",),
    "h350": ("ldap",),
    "imc": ("db_sqlite",),
    "janssonrpcc": ("jansson",),
    "log_custom": (),
    "lost": ("http_client",),
    "presence_conference": ("presence",),
    "presence_dialoginfo": ("presence",),
    "presence_mwi": ("presence",),
    "presence_profile": ("presence",),
    "presence_reginfo": ("presence",),
    "presence_xml": ("db_sqlite", "xcap_client", "presence"),
    "pua_bla": ("pua", "usrloc"),
    "pua_dialoginfo": ("dialog", "pua"),
    "pua_json": ("json", "pua"),
    "pua_reginfo": ("pua", "usrloc"),
    "pua_rpc": ("pua",),
    "pua_usrloc": ("pua", "usrloc"),
    "pua_xmpp": ("presence", "pua", "xmpp"),
    "registrar": ("usrloc",),
    "rls": ("db_sqlite", "presence", "pua"),
    "slack": ("http_client",),
    "sst": ("dialog",),
    "topos_redis": ("ndb_redis", "topos"),
    "tsilo": ("usrloc", "registrar"),
    "uac_redirect": ("acc",),
    "uid_auth_db": ("auth",),
    "uri_db": ("db_sqlite",),
    "websocket": ("xhttp",),
    "xhttp_pi": ("xhttp",),
    "xhttp_prom": ("xhttp",),
    "xhttp_rpc": ("xhttp",),
}

# Module → lines of modparam. {folder} is the server's own.
PARAMS: dict[str, tuple[str, ...]] = {
    **{
        name: tuple(f'modparam("{name}", "{parameter}", "{_DB}")' for parameter in parameters)
        for name, parameters in _WITH_TABLES.items()
    },
    "auth_ephemeral": ('modparam("auth_ephemeral", "secret", "s")',),
    "call_obj": ('modparam("call_obj", "start", 1)', 'modparam("call_obj", "end", 9)'),
    "dispatcher": ('modparam("dispatcher", "list_file", "{folder}/dispatcher.list")',),
    "dmq": ('modparam("dmq", "server_address", "sip:127.0.0.1:{port}")',),
    "pua_bla": ('modparam("pua_bla", "server_address", "sip:127.0.0.1")',),
    "pua_reginfo": (
        'modparam("pua_reginfo", "default_domain", "example.org")',
        'modparam("pua_reginfo", "server_address", "sip:127.0.0.1")',
    ),
    "pua_usrloc": ('modparam("pua_usrloc", "default_domain", "example.org")',),
    "pua_xmpp": ('modparam("pua_xmpp", "server_address", "sip:127.0.0.1")',),
    "qos": ('modparam("qos", "qos_flag", 1)',),
    "rls": ('modparam("rls", "server_address", "sip:127.0.0.1")',),
    "sst": ('modparam("sst", "sst_flag", 1)',),
}

# Module → lines of the core's settings.
CORE: dict[str, tuple[str, ...]] = {"tls": ("enable_tls=yes",)}

_EVENT = "event_route[{name}] {{ exit; }}"

# Module → event routes that it wants to see.
EVENTS: dict[str, tuple[str, ...]] = {
    "nosip": (_EVENT.format(name="nosip:msg"),),
    "xhttp": (_EVENT.format(name="xhttp:request"),),
}

SQL = "/usr/share/kamailio/db_sqlite/*-create.sql"


def needs(module: str) -> list[str]:
    """All modules to load, the module last, each one once and after what it needs itself."""
    found: list[str] = []

    def add(name: str) -> None:
        for other in DEPENDS.get(name, ()):
            add(other)
        if name not in found and name not in ("app_python3", "jsonrpcs"):
            found.append(name)

    for name in (*BASE, module):
        add(name)
    return found


def prepare(module: str, folder: str) -> None:
    """Files that the module reads at its start."""
    if module == "dispatcher":
        with open(os.path.join(folder, "dispatcher.list"), "w", encoding="utf-8") as file:
            file.write("1 sip:127.0.0.1:9\n")
    if "db_sqlite" not in needs(module):
        return
    with contextlib.closing(sqlite3.connect(os.path.join(folder, "db"))) as database:
        # The table of versions is in "standard", and all others write into it.
        for path in sorted(glob.glob(SQL), key=lambda path: ("standard" not in path, path)):
            with open(path, encoding="utf-8") as file:
                create(database, file.read())


def create(database: sqlite3.Connection, script: str) -> None:
    """Run the statements of a file; a table or row that another file made too stays as it is.

    Raises sqlite3.Error for anything else.
    """
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if not sqlite3.complete_statement(statement):
            continue
        try:
            database.execute(statement)
        except sqlite3.IntegrityError:  # its line in the table of versions
            pass
        except sqlite3.OperationalError as error:
            if "already exists" not in str(error):
                raise
        statement = ""
    database.commit()

#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Builds the native kernel in this checkout, with nothing but a C compiler and Python's headers.
set -eu

usage() {
    cat <<'END'
usage: sh conf/kernel.sh

Builds the native kernel of this checkout (kemi/queue/kernel/_kernel.abi3.so), if it is not there or older than its sources.
It is for each CPython from 3.10 on. Queues work without it, too, in pure Python: see docs/howto/native-kernel.md.

Needs a C compiler and Python's headers: apt install gcc libc6-dev python3-dev. $CC names another compiler.
END
}

fail() {
    printf 'kernel.sh: %s\n' "$1" >&2
    exit "${2:-1}"
}

case ${1-} in
    '') ;;
    -h | --help) usage && exit ;;
    *) fail "unknown argument '$1'; sh conf/kernel.sh --help says what it does" 2 ;;
esac

CDPATH='' cd -- "$(dirname -- "$0")/../kemi/queue/kernel"
built=_kernel.abi3.so
[ ! -e $built ] || [ -n "$(find . -name '*.[ch]' -newer $built)" ] || exit 0
compiler=${CC:-cc}
command -v "$compiler" >/dev/null || fail "there is no C compiler ($compiler): apt install gcc libc6-dev"
headers=$(python3 -c '
import platform, sys, sysconfig
is_for = platform.python_implementation() == "CPython" and sys.version_info >= (3, 10)
print(sysconfig.get_path("include") if is_for else "")')
[ -n "$headers" ] || fail "the kernel is for CPython 3.10 and newer, and python3 is another one"
[ -e "$headers/Python.h" ] || fail "Python's headers are missing ($headers/Python.h): apt install python3-dev"
# A server may use the one that is there: it stays as it is until the other one is whole.
new=$(mktemp ./_kernel.XXXXXX) || fail "cannot write to $PWD"
trap 'rm -f "$new"' EXIT
trap 'exit 1' HUP INT TERM
"$compiler" -std=c11 -O2 -fvisibility=hidden -shared -fPIC -DPy_LIMITED_API=0x030A0000 -D_GNU_SOURCE "-I$headers" \
    -o "$new" _kernel.c || fail "the kernel cannot be built here (see above)"
chmod 644 "$new"
mv -f "$new" $built

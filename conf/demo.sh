#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Installs what the demo misses, then hands over to demo.py.
set -eu

usage() {
    cat <<'END'
usage: sh conf/demo.sh [--native | --worker | --ask]

Starts a Kamailio of its own on 127.0.0.1, lets sipp send it some hundred calls and messages, shows how the
queue fills and drains, and counts what came out. Ends with 0 only if nothing was lost, nothing came twice
and the order of each sender was kept. Takes some ten seconds and leaves nothing behind but the native kernel
in this folder, which is built first where a C compiler and Python's headers are (MQUEUE_KEMI_KERNEL=pure: not).

  --native    with routes in Kamailio's own language (kamailio-native.cfg) instead of Python (kamailio.cfg)
  --worker    with a worker outside of Kamailio (cdr_worker.py), which writes each call to a database; it is
              killed (kill -9) in the middle of its work, twice, and every call must be in the table once
  --ask       200 calls that each need a look-up of 0.2 s over HTTP: with a route that waits for it, and with one
              that asks a worker (conf/ask); one line with both times, after some 25 seconds
  --help      this text

On Debian, missing packages (kamailio, kamailio-python3-modules, sip-tester) are installed first, as root or
with sudo; the system service that comes with them is kept off. A Kamailio that is already there is not touched.
END
}

fail() {
    printf 'demo.sh: %s\n' "$1" >&2
    exit "${2:-1}"
}

demo='conf.demo conf/kamailio.cfg'
for option; do
    case $option in
        --native) demo='conf.demo conf/kamailio-native.cfg' ;;
        --worker) demo=conf.demo_worker ;;
        --ask) demo=conf.demo_ask ;;
        -h | --help) usage; exit ;;
        *) fail "unknown option '$option'; sh conf/demo.sh --help lists what there is" 2 ;;
    esac
done

CDPATH='' cd -- "$(dirname -- "$0")/.."
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin # an ordinary user's PATH lacks them, and kamailio is there

has_python_module() {
    for folder in $(kamailio -h 2>/dev/null | sed -n 's/.*Modules search path (default: \(.*\))$/\1/p' | tr : ' '); do
        [ ! -e "$folder/app_python3.so" ] || return 0
    done
    return 1
}

missing_packages() {
    command -v kamailio >/dev/null || echo kamailio
    has_python_module || echo kamailio-python3-modules
    command -v sipp >/dev/null || echo sip-tester
    command -v python3 >/dev/null || echo python3
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi
}

# While packages are installed, nothing may start or restart a service named kamailio.
policy=/usr/sbin/policy-rc.d

forbid_start() {
    [ ! -e "$policy" ] || return 0 # the system's own policy stays
    own_policy=yes
    # shellcheck disable=SC2016  # $1 is the policy's own
    printf '#!/bin/sh\ncase $1 in kamailio*) exit 101 ;; esac\n' | as_root tee "$policy" >/dev/null
    as_root chmod 755 "$policy"
}

settle_service() {
    [ -z "$own_policy" ] || as_root rm -f "$policy"
    own_policy=''
    [ -n "$new_service" ] || return 0
    if [ -d /run/systemd/system ]; then
        as_root systemctl disable --now kamailio >/dev/null 2>&1 || :
    elif [ -x /etc/init.d/kamailio ]; then
        as_root invoke-rc.d kamailio stop >/dev/null 2>&1 || :
        as_root update-rc.d kamailio disable >/dev/null 2>&1 || :
    fi
    new_service=''
}

apt() {
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 -q -y "$@" >>"$log" 2>&1 </dev/null
}

apt_install() {
    # shellcheck disable=SC2086  # a list of names
    apt install --no-install-recommends $packages
}

install_packages() {
    command -v apt-get >/dev/null ||
        fail "this is not a Debian system (no apt-get): please install $packages by its own means, then come back"
    [ "$(id -u)" -eq 0 ] || command -v sudo >/dev/null ||
        fail "$packages must be installed: run this as root, or install sudo"
    echo "Installing $packages (a minute or two) ..."
    own_policy='' new_service='' log=$(mktemp)
    trap 'settle_service; rm -f "$log"' EXIT
    trap 'exit 130' INT
    trap 'exit 143' HUP TERM
    case $(dpkg-query -W -f '${Status}' kamailio 2>/dev/null || :) in
        *' installed') ;;
        *) new_service=yes ;;
    esac
    forbid_start
    # The lists of packages are fetched only where they are missing or out of date.
    if ! apt_install && ! { apt update && apt_install; }; then
        tail -n 20 "$log" >&2
        fail "apt-get could not install $packages (see above); once it can, run this again"
    fi
    settle_service
    rm -f "$log"
    trap - EXIT INT HUP TERM
}

packages=$(missing_packages | tr '\n' ' ')
packages=${packages% }
[ -z "$packages" ] || install_packages
# In pure Python it shows the same. An installed package has its own kernel, or none.
kernel=kemi/queue/kernel
if [ "${MQUEUE_KEMI_KERNEL-}" != pure ] && [ -w "$kernel" ]; then
    why=$(sh conf/kernel.sh 2>&1) || printf 'Without the native kernel, in pure Python:\n%s\n' "$why"
fi
# shellcheck disable=SC2086  # a module and its argument
exec python3 -B -m $demo

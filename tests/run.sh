#!/bin/sh
# Every check of this project, with one command on a fresh Debian 12: as root, or as a user who may sudo.
#
#     sh tests/run.sh [options of tox]        for instance: sh tests/run.sh -e py -- tests/server -k reload
#
# Installs the Debian packages that are missing, makes a private virtual environment in .venv-tests/ and runs
# tox in it. Nothing else changes in the checkout, and no system service is started or left enabled.
set -eu
cd "$(dirname "$0")/.."

packages='kamailio kamailio-python3-modules kamcli sip-tester python3-venv'
python=/usr/bin/python3 # the one that Debian's Kamailio embeds, whatever else is on PATH
venv=.venv-tests
unit=/etc/systemd/system/kamailio.service
PATH=$PATH:/usr/sbin:/sbin
export PATH
unset PYTHONHOME PYTHONPATH VIRTUAL_ENV

# Some tests start a server as root that changes to another user.
[ "$(id -u)" -eq 0 ] || exec sudo -- sh tests/run.sh "$@"

installed() {
    [ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

unmask() {
    [ -z "${masked-}" ] || rm -f "$unit"
    masked=
}

# Installing Debian's kamailio starts and enables a service that listens on every address: a mask keeps it down
# meanwhile. A service that was there before is left as it is.
install_packages() {
    if ! installed kamailio && ! [ -e "$unit" ] && ! [ -L "$unit" ]; then
        trap unmask EXIT
        trap 'exit 1' HUP INT TERM
        mkdir -p "${unit%/*}"
        ln -s /dev/null "$unit"
        masked=yes
    fi
    export DEBIAN_FRONTEND=noninteractive
    apt-get update --quiet </dev/null
    # shellcheck disable=SC2086 # a list of words
    apt-get -o DPkg::Lock::Timeout=300 install --quiet --yes --no-install-recommends $1 </dev/null
    if [ -n "${masked-}" ]; then
        unmask
        if command -v systemctl >/dev/null; then
            systemctl disable kamailio.service
        else
            update-rc.d kamailio disable
        fi
    fi
}

missing=
for package in $packages; do
    installed "$package" || missing="$missing $package"
done
[ -z "$missing" ] || install_packages "$missing"

if ! "$venv/bin/python" -c 'import tox' 2>/dev/null; then
    rm -rf "$venv"
    "$python" -m venv "$venv"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check 'tox>=4.11,<5'
fi
# Not bin/tox: the path in its first line may hold a space, or be too long.
exec "$venv/bin/python" -m tox --workdir "$venv/tox" "$@"

#!/bin/sh
# Every check of this project, with one command on a fresh Debian 12 or 13: as root, or as a user who may sudo.
#
#     sh tests/run.sh [--debian bookworm|trixie] [options of tox]
#                                             for instance: sh tests/run.sh -e py -- tests/server -k reload
#
# Installs the Debian packages that are missing, makes a private virtual environment in .venv-tests/ and runs
# tox in it. Nothing else changes in the checkout, and no system service is started or left enabled.
#
# With --debian and the name of the other release, all this is done in that one, in a folder: see other_debian.sh.
set -eu
cd "$(dirname "$0")/.."

packages='kamailio kamailio-python3-modules kamailio-extra-modules kamcli sip-tester python3-venv tmux procps
    kamailio-sqlite-modules kamailio-mysql-modules kamailio-postgres-modules
    mariadb-server-core mariadb-client-core postgresql pgbouncer
    python3-sqlalchemy python3-pymysql python3-psycopg2 prometheus redis-server
    gcc libc6-dev python3-dev'
python=/usr/bin/python3 # the one that Debian's Kamailio embeds, whatever else is on PATH
venv=${MQUEUE_TESTS_VENV:-.venv-tests}
policy=/usr/sbin/policy-rc.d
PATH=$PATH:/usr/sbin:/sbin
export PATH
unset PYTHONHOME PYTHONPATH VIRTUAL_ENV

# Some tests start a server as root that changes to another user.
[ "$(id -u)" -eq 0 ] || exec sudo -- sh tests/run.sh "$@"

installed() {
    [ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

# Debian's packages start and enable a service: Kamailio's listens on every address, PostgreSQL's has a cluster that
# nobody asked for. Nothing is started meanwhile; a service that was there before is left as it is.
hold_services() {
    trap release_services EXIT
    trap 'exit 1' HUP INT TERM
    installed kamailio || hold_service kamailio
    installed postgresql-common || hold_service postgresql
    installed pgbouncer || hold_service pgbouncer
    installed prometheus || hold_service prometheus
    installed redis-server || hold_service redis-server
    case $packages in
        *valkey-server*) installed valkey-server || hold_service valkey-server ;; # Debian 12 has none
    esac
    if ! [ -e "$policy" ] && ! [ -L "$policy" ]; then # a container without systemd knows no masks
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
        policy_made=yes
    fi
}

hold_service() {
    unit=/etc/systemd/system/$1.service
    if ! [ -e "$unit" ] && ! [ -L "$unit" ]; then
        mkdir -p "${unit%/*}"
        ln -s /dev/null "$unit"
        held="${held-} $1"
    fi
}

release_services() {
    [ -z "${policy_made-}" ] || rm -f "$policy"
    for service in ${held-}; do
        rm -f "/etc/systemd/system/$service.service"
    done
    policy_made=
}

install_packages() {
    hold_services
    export DEBIAN_FRONTEND=noninteractive
    apt-get update --quiet </dev/null
    # shellcheck disable=SC2086 # a list of words
    apt-get -o DPkg::Lock::Timeout=300 install --quiet --yes --no-install-recommends $1 </dev/null
    release_services
    for service in ${held-}; do
        if command -v systemctl >/dev/null; then
            systemctl disable "$service.service"
        else
            update-rc.d "$service" disable
        fi
    done
    held=
}

release=
case ${1-} in
    --debian)
        release=${2:-nothing}
        shift
        [ $# -eq 0 ] || shift
        ;;
    --debian=*) release=${1#*=} && shift ;;
esac
case $release in
    '') ;;
    bookworm | trixie)
        # shellcheck disable=SC1091 # the system's own
        [ "$release" = "$(. /etc/os-release && echo "${VERSION_CODENAME-}")" ] || exec sh tests/other_debian.sh "$release" "$@"
        ;;
    *) echo "tests/run.sh: --debian takes bookworm or trixie, not '$release'" >&2 && exit 2 ;;
esac

# shellcheck disable=SC1091 # the system's own
case $(. /etc/os-release && echo "${VERSION_CODENAME-}") in
    bookworm) ;; # has no Valkey
    *) packages="$packages valkey-server" ;;
esac

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

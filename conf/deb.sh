#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Builds the Debian package in a clean Debian of its own.
# shellcheck disable=SC2016 # what is in single quotes is for another shell
set -eu

usage() {
    cat <<'END'
usage: sh conf/deb.sh [--suite SUITE] [--output FOLDER] [--quick]

Builds the Debian package python3-mqueue-kemi from this checkout in a clean Debian (bookworm, trixie, ...) of its own,
checks it with lintian and installs it there, where autopkgtest tries it with the real Kamailio. The packages are then in
dist/SUITE. Install one with:

    apt install ./dist/bookworm/python3-mqueue-kemi_*.deb

  --suite SUITE    bookworm or later; this host's own by default
  --output FOLDER  where the packages go, dist/SUITE by default
  --quick          build only: no lintian, no autopkgtest
  --help           this text

Needs root, or sudo, for a chroot, and installs debootstrap where it is missing. The Debian is made once, in the user's cache folder, with the mirror
that this host's apt uses; a build takes some five minutes, without the checks two. Nothing else changes on this host.
END
}

CDPATH='' cd -- "$(dirname -- "$0")/.."

say() {
    printf 'deb.sh: %s\n' "$1" >&2
}

fail() {
    say "$1"
    exit "${2:-1}"
}

suite='' output='' quick=''
while [ $# -gt 0 ]; do
    case $1 in
        --suite | --output)
            [ $# -gt 1 ] || fail "$1 needs a value; sh conf/deb.sh --help says which" 2
            [ "$1" = --suite ] && suite=$2 || output=$2
            shift
            ;;
        --quick) quick=yes ;;
        -h | --help) usage; exit ;;
        *) fail "unknown option '$1'; sh conf/deb.sh --help lists what there is" 2 ;;
    esac
    shift
done
# shellcheck disable=SC1091 # of the host
host=$(. /etc/os-release && echo "${VERSION_CODENAME-}")
suite=${suite:-$host}
case $suite in
    '') fail "this host is no Debian: say which one to build for, --suite bookworm" 2 ;;
    *[!a-z]*) fail "'$suite' is no name of a Debian; there are bookworm, trixie and later ones" 2 ;;
esac
output=${output:-dist/$suite}
[ "$(id -u)" -eq 0 ] ||
    exec sudo -- env XDG_CACHE_HOME="${XDG_CACHE_HOME:-$HOME/.cache}" sh conf/deb.sh --suite "$suite" --output "$output" \
        ${quick:+--quick}

for command in apt-get flock setpriv unshare; do
    command -v "$command" >/dev/null || fail "the command $command is missing"
done
release=$suite
cache=${XDG_CACHE_HOME:-$HOME/.cache}/mqueue-kemi
root=$cache/$release.clean
# shellcheck disable=SC2034 # debian_root.sh needs it
new=$root.new
mkdir -p "$cache"
work=$(mktemp -d "$cache/deb.XXXXXX")
trap 'rm -rf --one-file-system "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' HUP TERM

# shellcheck source=conf/debian_root.sh
. conf/debian_root.sh
lock_release
[ -d "$root" ] || make_release

version=$(sed -n '1s/.*(\(.*\)-[^-]*).*/\1/p' debian/changelog)
name=mqueue-kemi-$version

# What the repository has, or where there is none, all that is no rubbish.
files() {
    if [ -e .git ] && command -v git >/dev/null; then
        git -c safe.directory="$PWD" ls-files -z --cached --others --exclude-standard
    else
        find . \( -name .git -o -name '.venv*' -o -name '.*_cache' -o -name __pycache__ -o -path ./dist \) -prune \
            -o -type f -print0
    fi
}

copy_source() {
    mkdir -p "$work/source/$name"
    files | xargs -0 sh -c 'for file; do [ ! -e "$file" ] || printf "%s\0" "$file"; done' files |
        tar -c --null -T - | tar -x -C "$work/source/$name" --no-same-owner
    tar -c -z --exclude="$name/debian" --owner=0 --group=0 -C "$work/source" "$name" >"$work/source/mqueue-kemi_$version.orig.tar.gz"
}

# A new Debian: a copy of the clean one, which nothing ever changes.
new_debian() {
    cp -a --reflink=auto "$root" "$1"
    printf '%s\n' 'Binary::apt::APT::Keep-Downloaded-Packages "true";' 'Dpkg::Use-Pty "0";' >"$1/etc/apt/apt.conf.d/98build"
    echo force-unsafe-io >"$1/etc/dpkg/dpkg.cfg.d/unsafe-io" # it is thrown away soon
    inside "$1" apt-get update -qq
}

# Runs a command in a Debian, with the sources in /source.
inside() {
    debian=$1
    shift
    enter "$debian" "$work/source" /source rw env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
        HOME=/root LANG=C.UTF-8 DEBIAN_FRONTEND=noninteractive \
        ${http_proxy:+http_proxy="$http_proxy"} ${https_proxy:+https_proxy="$https_proxy"} "$@"
}

# A package of a Debian that has none of it, built by a user who may do nothing.
build() {
    new_debian "$work/build"
    inside "$work/build" sh -eu -c '
        apt-get install -q -y --no-install-recommends build-essential dpkg-dev fakeroot
        apt-get build-dep -q -y --no-install-recommends "/source/$1"
        useradd --create-home builder
        chown -R builder /source
        cd "/source/$1"
        exec setpriv --reuid=builder --regid=builder --clear-groups env HOME=/home/builder LANG=C.UTF-8 \
            dpkg-buildpackage -us -uc -F
    ' build "$name"
    rm -rf "$work/build"
}

check() {
    new_debian "$work/check"
    inside "$work/check" sh -eu -c '
        apt-get install -q -y --no-install-recommends lintian autopkgtest dpkg-dev apt-utils >/dev/null
        cd /source
        lintian --version
        if ! lintian --allow-root --info --display-info --pedantic --fail-on error,warning ./*.changes; then
            echo "deb.sh: lintian finds fault with the package (see above)" >&2
            exit 1
        fi
        echo "lintian: no error, no warning"
        # By a pipe: what it starts opens its output anew, and would empty a file.
        { autopkgtest --apt-upgrade ./*.deb ./*.dsc -- null 2>&1 || touch failed; } | cat
        [ ! -e failed ]
    '
    rm -rf "$work/check"
}

copy_source
build
mkdir -p "$output"
for file in "$work"/source/mqueue-kemi_* "$work"/source/*.deb; do
    install -m 644 "$file" "$output/"
done
[ -n "$quick" ] || check
for file in "$output"/*.deb; do
    echo "Built for $suite: $file"
done

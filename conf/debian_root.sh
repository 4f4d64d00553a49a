# shellcheck shell=sh disable=SC2016
# A Debian system in a folder, for scripts that need another one than the host's, or a clean one. To be sourced, by root:
#
#     . conf/debian_root.sh
#     root=$(debian_root trixie)                       makes it in the cache folder at first, prints its path
#     debian_copy trixie /tmp/mine                     a copy of it that may be changed (hard to tell from a new one)
#     debian_run /tmp/mine COMMAND [ARGUMENT]...       runs a command in it; BIND="/host:/inside ..." shows it more folders
#
# The mirror, its proxy and its certificates are those of the host's apt; DEBIAN_MIRROR=URL says another one. What is
# mounted for a command is mounted in a name space of its own and is gone when the command ends, whatever ends it; the
# processes that it left behind end too. Each command has a /dev/shm of its own.

debian_cache=${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/mqueue_kemi

debian_fail() {
    printf '%s: %s\n' "${0##*/}" "$1" >&2
    exit 1
}

# The address of a kind of Debian's archive, by the label that its Release file has.
debian_uri() {
    apt-get indextargets --format '$(LABEL)|$(REPO_URI)' 'Created-By: Packages' 2>/dev/null |
        sed -n "s/^$1|//p" | head -n 1
}

debian_sources() {
    printf 'deb %s %s main\ndeb %s %s-updates main\n' "$2" "$1" "$2" "$1"
    security=$(debian_uri Debian-Security)
    [ -z "$security" ] || printf 'deb %s %s-security main\n' "$security" "$1"
}

debian_root() {
    suite=$1 root=$debian_cache/$1
    if ! [ -e "$root/etc/apt/sources.list" ]; then
        command -v debootstrap >/dev/null || debian_fail 'debootstrap is missing: apt install debootstrap'
        mirror=${DEBIAN_MIRROR:-$(debian_uri Debian)}
        [ -n "$mirror" ] ||
            debian_fail "apt knows no mirror of Debian; say which: DEBIAN_MIRROR=URL, or apt-get update first"
        mkdir -p "$debian_cache"
        rm -rf "$root.draft"
        echo "Making a Debian $suite in $root (a few minutes, once) ..." >&2
        debootstrap --variant=minbase --include=ca-certificates "$suite" "$root.draft" "$mirror" >"$root.log" 2>&1 ||
            debian_fail "debootstrap could not make a Debian $suite; $root.log says why"
        apt-config dump 2>/dev/null | sed -n '/^Acquire::.*::Proxy "..*";$/p' >"$root.draft/etc/apt/apt.conf.d/90host"
        printf '#!/bin/sh\nexit 101\n' >"$root.draft/usr/sbin/policy-rc.d" # no package starts a service in it
        chmod 755 "$root.draft/usr/sbin/policy-rc.d"
        printf 'Dpkg::Use-Pty "0";\n' >"$root.draft/etc/apt/apt.conf.d/91quiet"
        echo force-unsafe-io >"$root.draft/etc/dpkg/dpkg.cfg.d/unsafe-io" # what is lost is made anew
        debian_sources "$suite" "$mirror" >"$root.draft/etc/apt/sources.list"
        for file in /usr/local/share/ca-certificates/*.crt; do # the host's own, for a mirror by https
            [ ! -e "$file" ] || cp "$file" "$root.draft/usr/local/share/ca-certificates/"
        done
        chroot "$root.draft" update-ca-certificates >>"$root.log" 2>&1
        mv "$root.draft" "$root"
    fi
    printf '%s\n' "$root"
}

debian_copy() {
    mkdir -p "$2"
    cp -a --reflink=auto "$(debian_root "$1")/." "$2"
}

debian_run() {
    BIND=${BIND-} unshare --mount --pid --fork --kill-child --propagation private sh -eu -c '
        root=$1
        shift
        mount --bind "$root" "$root"
        mount -t proc proc "$root/proc"
        mount --rbind /sys "$root/sys"
        mount --rbind /dev "$root/dev"
        mount -t tmpfs -o mode=1777,size=50% tmpfs "$root/dev/shm"
        for pair in $BIND; do
            mkdir -p "$root${pair#*:}"
            mount --rbind "${pair%%:*}" "$root${pair#*:}"
        done
        cp -L /etc/resolv.conf /etc/hosts "$root/etc/"
        export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8
        export DEBIAN_FRONTEND=noninteractive
        exec chroot "$root" "$@"
    ' debian_run "$@"
}

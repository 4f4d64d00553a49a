# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=sh disable=SC2154 # the caller's variables
# Makes a Debian of any release in a folder, and runs commands in it. To be sourced, as root, by tests/other_debian.sh and
# conf/deb.sh, which set
#
#     release   trixie, for instance           host    this host's own release
#     root      the folder to make it in       new     a name beside it, while it is not complete
#     work      a folder for files that nobody needs afterwards
#     cache     where downloaded packages stay, for all of them
#
# and have say, which tells a line, and fail, which ends with a line and a code.
#
# The order is lock_release, make_release, enter.
#
# Packages come from where this host's apt gets its own, by the ways that apt is configured for (proxies, passwords,
# certificates).

unreachable=75                 # the code where there is no way to a mirror
helper=/usr/lib/apt/apt-helper # downloads as apt does

# Waits until nobody else makes or uses a Debian of this release, until this script's end.
lock_release() {
    mkdir -p "$cache"
    exec 9>"$cache/$release.lock"
    flock --nonblock 9 || {
        say "another run has the $release in $cache; waiting for it"
        flock 9
    }
}

# --- where its packages come from

# Lines "URI NAME": every archive of Debian that apt uses for this host's release, with the other's name for it.
archives() {
    # shellcheck disable=SC2016 # apt's variables
    apt-get indextargets --format '$(COMPONENT) $(REPO_URI) $(CODENAME)' 'Created-By: Packages' |
        sed -n "s/^main \\([^ ]*\\) $host\\(-updates\\|-security\\)\\{0,1\\}\$/\\1 $release\\2/p" | sort -u
}

main_archive() {
    archives | sed -n "s/ $release\$//p" | head -n 1
}

# Ends with the code for a mirror that cannot be reached, and with another one where it has no such release.
check_mirror() {
    [ -n "$(main_archive)" ] || apt-get update --quiet -o APT::Update::Error-Mode=any </dev/null || no_way=yes
    mirror=$(main_archive)
    if [ -z "$mirror" ]; then
        [ -z "${no_way-}" ] || fail "SKIPPED: apt cannot reach its mirror" "$unreachable"
        fail "apt has no archive of Debian for this host's release ($host)"
    fi
    for name in $release $host; do
        for file in InRelease Release; do
            ! "$helper" download-file "${mirror%/}/dists/$name/$file" "$work/$file" >"$work/log" 2>&1 || break 2
        done
        file=
    done
    [ -n "$file" ] || {
        tail -n 5 "$work/log" >&2
        ! grep -q ' 404 ' "$work/log" || fail "the mirror of this host's apt, $mirror, has neither $release nor $host"
        fail "SKIPPED: the mirror of this host's apt cannot be reached" "$unreachable"
    }
    [ "$name" = "$release" ] || fail "the mirror of this host's apt has no $release"
}

# --- making it

# debootstrap knows wget only.
make_downloader() {
    mkdir "$work/bin"
    cat >"$work/bin/wget" <<'END'
#!/bin/sh
to=
while [ $# -gt 1 ]; do
    [ "$1" != -O ] || to=$2
    shift
done
exec /usr/lib/apt/apt-helper download-file "$1" "$to"
END
    chmod 755 "$work/bin/wget"
}

# What the host's apt and pip know of the way to their servers.
copy_configuration() {
    archives | sed 's/^\(.*\) \(.*\)$/deb \1 \2 main/' >"$new/etc/apt/sources.list"
    rm -f "$new"/etc/apt/sources.list.d/*
    apt-config dump | grep -E '^Acquire::[A-Za-z:_./-]+ "' | grep -v Proxy-Auto-Detect >"$new/etc/apt/apt.conf.d/99host" || :
    proxy=$("$helper" auto-detect-proxy "$mirror" 2>/dev/null | sed -n "s/^Using proxy '\\(.*\\)' for .*/\\1/p")
    [ -z "$proxy" ] || echo "Acquire::${mirror%%:*}::Proxy \"$proxy\";" >>"$new/etc/apt/apt.conf.d/99host"
    for file in etc/apt/auth.conf etc/apt/auth.conf.d etc/apt/keyrings etc/apt/trusted.gpg.d etc/pip.conf etc/xdg/pip \
        usr/local/share/ca-certificates; do
        [ -e "/$file" ] || continue
        mkdir -p "$new/${file%/*}"
        cp -RL "/$file" "$new/${file%/*}/"
    done
    for file in "$HOME/.config/pip/pip.conf" "$HOME/.pip/pip.conf"; do
        [ ! -e "$file" ] || { mkdir -p "$new/root/.config/pip" && cat "$file" >>"$new/root/.config/pip/pip.conf"; }
    done
}

install_debootstrap() {
    ! command -v debootstrap >/dev/null || return 0
    apt-get update --quiet </dev/null
    DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install --quiet --yes --no-install-recommends debootstrap </dev/null
}

make_release() {
    check_mirror
    install_debootstrap
    say "making $release with debootstrap, in $root"
    make_downloader
    rm -rf --one-file-system "$new"
    mkdir -p "$cache/$release.packages"
    PATH=$work/bin:$PATH alone --mount --pid --fork --kill-child --mount-proc debootstrap --variant=minbase \
        --include=ca-certificates --cache-dir="$cache/$release.packages" "$release" "$new" "$mirror" >"$work/log" 2>&1 || {
        tail -n 30 "$work/log" "$new/debootstrap/debootstrap.log" >&2 || :
        fail "debootstrap failed"
    }
    copy_configuration
    printf '#!/bin/sh\nexit 101\n' >"$new/usr/sbin/policy-rc.d" # no service is ever started
    chmod 755 "$new/usr/sbin/policy-rc.d"
    chroot "$new" update-ca-certificates >/dev/null
    touch "$new"
    mv "$new" "$root"
}

# --- entering it

# enter ROOT SOURCE PLACE ro|rw COMMAND...
#
# Runs a command in the Debian in ROOT, with mounts, processes, /dev/shm and System V memory that nobody else sees and that
# end with it. SOURCE is at PLACE there. Downloaded packages stay in the cache.
enter() {
    mkdir -p "$1$3" "$cache/$release.archives/partial"
    cp /etc/resolv.conf /etc/hosts "$1/etc/"
    # Background jobs of a script without job control ignore Ctrl-C: what is run inside must not inherit that.
    # shellcheck disable=SC2016 # the inner shell's own
    alone --mount --pid --ipc --fork --kill-child --mount-proc --propagation private env --default-signal=INT,QUIT sh -euc '
        archives=$1 root=$2 source=$3 place=$4 mode=$5
        shift 5
        mount --bind "$root" "$root"
        mount -t proc proc "$root/proc"
        mount --rbind /sys "$root/sys"
        mount --rbind /dev "$root/dev"
        mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
        mount --bind "$archives" "$root/var/cache/apt/archives"
        mount --bind "$source" "$root$place"
        [ "$mode" = rw ] || mount -o remount,bind,ro "$root$place"
        # Not exec: the first process of the namespace is to wait for those that nobody else waits for.
        chroot "$root" "$@"
        exit $?
    ' enter "$cache/$release.archives" "$@"
}

# Runs a command in namespaces of its own, which end with this script, also when that is killed: with --mount no mounts are
# left, with --pid --fork --kill-child no processes.
alone() {
    setpriv --pdeathsig KILL unshare "$@" &
    child=$!
    wait "$child"
}

# shellcheck shell=sh disable=SC2154 # the caller's variables
# Makes a Debian of any release in a folder. To be sourced, as root, by tests/other_debian.sh and conf/deb.sh, which set
#
#     release   trixie, for instance           host    this host's own release
#     root      the folder to make it in       new     a name beside it, while it is not complete
#     work      a folder for files that nobody needs afterwards
#     cache     where downloaded packages stay, for all of them
#
# and have say, which tells a line, and fail, which ends with a line and a code.
#
# Packages come from where this host's apt gets its own, by the ways that apt is configured for (proxies, passwords,
# certificates).

unreachable=75                 # the code where there is no way to a mirror
helper=/usr/lib/apt/apt-helper # downloads as apt does

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

# Tells a mirror that cannot be reached from one that has no such release.
check_mirror() {
    [ -n "$(main_archive)" ] || apt-get update --quiet </dev/null
    mirror=$(main_archive)
    [ -n "$mirror" ] || fail "apt has no archive of Debian for this host's release ($host)"
    for name in $release $host; do
        for file in InRelease Release; do
            ! "$helper" download-file "${mirror%/}/dists/$name/$file" "$work/$file" >"$work/log" 2>&1 || break 2
        done
        file=
    done
    [ -n "$file" ] || {
        tail -n 5 "$work/log" >&2
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

make_release() {
    check_mirror
    say "making $release with debootstrap, in $root"
    make_downloader
    rm -rf --one-file-system "$new"
    mkdir -p "$cache/$release.packages"
    PATH=$work/bin:$PATH alone --mount debootstrap --variant=minbase --include=ca-certificates --cache-dir="$cache/$release.packages" \
        "$release" "$new" "$mirror" >"$work/log" 2>&1 || {
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

# Runs a command in namespaces of its own, which end with this script, also when that is killed. Without --fork there are
# no mounts to be left; with it, no processes either.
alone() {
    setpriv --pdeathsig KILL unshare "$@" &
    child=$!
    wait "$child"
}

#!/bin/sh
# Runs tests/run.sh inside another release of Debian, for tests/run.sh --debian: not to be called by itself.
#
#     other_debian.sh RELEASE [options of tox]
#
# The release is made once by debootstrap, in a folder of its own below ~/.cache/mqueue-kemi, from where this host's apt
# gets its packages, by the ways that apt is configured for (proxies, passwords, certificates). It is entered with mounts,
# processes and /dev/shm that nobody else sees and that end with this script, however it ends. The checkout is read-only
# there. Exits with 75 where the release is needed from a mirror that cannot be reached.
set -eu

release=$1
shift
# shellcheck disable=SC1091 # the system's own
host=$(. /etc/os-release && echo "$VERSION_CODENAME")
unreachable=75
cache=${XDG_CACHE_HOME:-$HOME/.cache}/mqueue-kemi
root=$cache/$release
new=$root.new
work=$root.work
inside=/srv/checkout
helper=/usr/lib/apt/apt-helper # downloads as apt does
days=30                        # a release that was made before is made anew

say() {
    printf 'tests/run.sh --debian %s: %s\n' "$release" "$1" >&2
}

fail() {
    say "$1"
    exit "${2:-1}"
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
    mkdir -p "$new$inside"
    touch "$new"
    mv "$new" "$root"
}

# --- entering it

# Runs a command in namespaces of its own, which end with this script, also when that is killed. Without --fork there are
# no mounts to be left; with it, no processes either.
alone() {
    setpriv --pdeathsig KILL unshare "$@" &
    child=$!
    wait "$child"
}

end() {
    trap - EXIT HUP INT TERM
    [ -z "${child-}" ] || kill -KILL "$child" 2>/dev/null || :
    rm -rf --one-file-system "$work"
    exit "$1"
}

for command in debootstrap unshare setpriv flock; do
    command -v "$command" >/dev/null || fail "the command $command is missing"
done
mkdir -p "$cache"
exec 9>"$root.lock"
flock --nonblock 9 || {
    say "another run has $root; waiting for it"
    flock 9
}
trap 'end $?' EXIT
trap 'end 129' HUP
trap 'end 130' INT
trap 'end 143' TERM
rm -rf "$work" # of a run that was killed
mkdir "$work"
[ -z "$(find "$root" -maxdepth 0 -mtime +"$days" 2>/dev/null)" ] || rm -rf --one-file-system "$root"
[ -d "$root" ] || make_release
mkdir -p "$cache/$release.archives"
cp /etc/resolv.conf /etc/hosts "$root/etc/"

# Background jobs of a script without job control ignore Ctrl-C: what is run inside must not inherit that.
# shellcheck disable=SC2016 # the inner shell's own
alone --mount --pid --ipc --fork --kill-child --mount-proc --propagation private env --default-signal=INT,QUIT sh -euc '
root=$1 checkout=$2 inside=$3 archives=$4
shift 4
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
mount --rbind /sys "$root/sys"
mount --rbind /dev "$root/dev"
mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
mount --bind "$archives" "$root/var/cache/apt/archives"
mount --bind "$checkout" "$root$inside"
mount -o remount,bind,ro "$root$inside"
find "$root/tmp" -mindepth 1 -delete
# Not exec: the first process of the namespace is to wait for those that nobody else waits for.
chroot "$root" env --unset=TMPDIR --unset=XDG_CACHE_HOME --unset=XDG_CONFIG_HOME HOME=/root LANG=C.UTF-8 \
    MQUEUE_TESTS_VENV=/var/lib/mqueue-kemi-tests sh "$inside/tests/run.sh" "$@"
exit $?
' inside "$root" "$PWD" "$inside" "$cache/$release.archives" "$@"

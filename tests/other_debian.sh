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
# shellcheck disable=SC1091,SC2034 # the system's own; debian_root.sh needs it
host=$(. /etc/os-release && echo "$VERSION_CODENAME")
cache=${XDG_CACHE_HOME:-$HOME/.cache}/mqueue-kemi
root=$cache/$release
# shellcheck disable=SC2034 # debian_root.sh needs it
new=$root.new
work=$root.work
inside=/srv/checkout
days=30 # a release that was made before is made anew

say() {
    printf 'tests/run.sh --debian %s: %s\n' "$release" "$1" >&2
}

fail() {
    say "$1"
    exit "${2:-1}"
}

# shellcheck source=conf/debian_root.sh
. conf/debian_root.sh

# --- entering it

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
mkdir -p "$root$inside"
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

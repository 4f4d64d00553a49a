#!/bin/sh
# Runs tests/run.sh inside another release of Debian, for tests/run.sh --debian: not to be called by itself.
#
#     other_debian.sh RELEASE [options of tox]
#
# The release is made by debootstrap, in a folder of its own below ~/.cache/mqueue-kemi, from where this host's apt gets its
# packages, by the ways that apt is configured for (proxies, passwords, certificates), and made anew after a month. The
# checkout is read-only there. Exits with 75 where the mirror is needed and cannot be reached, and only there.
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
ready=$root/var/lib/mqueue-kemi-tests.ready # made when all that the tests need is in it
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

end() {
    trap - EXIT HUP INT TERM
    [ -z "${child-}" ] || kill -KILL "$child" 2>/dev/null || :
    rm -rf --one-file-system "$work"
    exit "$1"
}

run() {
    enter "$root" "$PWD" "$inside" ro env --unset=TMPDIR --unset=XDG_CACHE_HOME --unset=XDG_CONFIG_HOME HOME=/root \
        LANG=C.UTF-8 MQUEUE_TESTS_VENV=/var/lib/mqueue-kemi-tests sh "$inside/tests/run.sh" "$@"
}

for command in unshare setpriv flock; do
    command -v "$command" >/dev/null || fail "the command $command is missing"
done
lock_release
trap 'end $?' EXIT
trap 'end 129' HUP
trap 'end 130' INT
trap 'end 143' TERM
rm -rf "$work" # of a run that was killed
mkdir "$work"
if [ ! -d "$root" ]; then
    make_release
elif [ -n "$(find "$root" -maxdepth 0 -mtime +"$days")" ]; then
    if (check_mirror); then
        rm -rf --one-file-system "$root"
        make_release
    else
        say "using the $release that was made more than $days days ago"
    fi
fi
find "$root/tmp" -mindepth 1 -delete
if [ ! -e "$ready" ]; then
    run -e py --notest || {
        status=$?
        [ "$status" -lt 128 ] || exit "$status" # by a signal
        check_mirror                            # that cannot be reached: a cause that is no fault of the checkout
        fail "what the tests need cannot be installed in $root (see above)"
    }
    touch "$ready"
fi
run "$@" || {
    status=$?
    [ "$status" -ne "$unreachable" ] || status=1
    exit "$status"
}

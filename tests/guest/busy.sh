#!/bin/busybox sh
# shellcheck shell=dash
# /init of the workload "busy": open, read, stat, fork and exec until killed; the second serial port counts hundreds.
export PATH=/bin
busybox mount -t proc proc /proc
busybox mount -t devtmpfs devtmpfs /dev
busybox mount -t tmpfs tmpfs /tmp
busybox --install -s /bin
stty raw -echo < /dev/ttyS1
cd /tmp || exit
n=0
while :; do
    read -r uptime _ < /proc/uptime
    test -e /missing
    /bin/true
    echo "$uptime" > now
    /bin/cat now > before
    n=$((n + 1))
    [ $((n % 100)) -ne 0 ] || echo "$n" > /dev/ttyS1
done

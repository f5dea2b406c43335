#!/bin/busybox sh
# shellcheck shell=dash
# /init of the workload "compat": run /compat, bring its JSON lines out, power off.
PATH=/bin
busybox mount -t proc proc /proc
busybox mount -t devtmpfs devtmpfs /dev
busybox mount -t tmpfs tmpfs /tmp
port=/dev/console
if [ -e /dev/ttyS1 ]; then
    port=/dev/ttyS1
    busybox stty raw -echo < $port # raw: a line ends with \n alone
fi
cd /tmp || exit
/compat > $port
echo "compat: exit status $?"
busybox poweroff -f

#!/bin/busybox sh
# shellcheck shell=dash
# /init of the workload "compat": run /compat, bring its JSON lines out, power off.
PATH=/bin
busybox mount -t proc proc /proc
busybox mount -t devtmpfs devtmpfs /dev
busybox mount -t tmpfs tmpfs /tmp
busybox stty raw -echo < /dev/ttyS1 # raw: a line ends with \n alone
cd /tmp || exit
/compat > /dev/ttyS1
echo "compat: exit status $?"
busybox poweroff -f

#!/bin/busybox sh
# shellcheck shell=dash
# /init of the workload "bench": count=N on the kernel command line arrives here as a variable.
PATH=/bin
busybox mount -t proc proc /proc
busybox mount -t devtmpfs devtmpfs /dev
busybox mount -t tmpfs tmpfs /tmp
cd /tmp || exit
/bench "${count:-10000}"
busybox poweroff -f

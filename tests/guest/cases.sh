#!/bin/busybox sh
# shellcheck shell=dash
# /init of the workload "cases": run /cases, whose emulator takes it back to a snapshot again and again.
PATH=/bin
busybox mount -t proc proc /proc
busybox mount -t tmpfs tmpfs /tmp
cd /tmp || exit
busybox mkdir d0 d1 d2
/cases
busybox poweroff -f

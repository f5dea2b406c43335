#!/bin/busybox sh
# shellcheck shell=dash
# /init of the workload "signals": run /signals, its lines on the console between two marks; power off.
PATH=/bin
busybox mount -t proc proc /proc
busybox mount -t tmpfs tmpfs /tmp
cd /tmp || exit
/signals > truth
status=$?
echo "signals: the truth begins"
busybox cat truth
echo "signals: the truth ends"
echo "signals: exit status $status"
busybox poweroff -f

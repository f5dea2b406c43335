#!/bin/busybox sh
# shellcheck shell=dash
# /init of the workload "noise": reads that no compression makes smaller, 4 KiB each, count=N of them; then power off.
PATH=/bin
busybox mount -t proc proc /proc
busybox mount -t devtmpfs devtmpfs /dev
echo "noise: begin"
busybox dd if=/dev/urandom of=/dev/null bs=4096 count="${count:-3000}" && echo "noise: end"
busybox poweroff -f

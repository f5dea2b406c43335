#!/bin/busybox sh
# shellcheck shell=dash
# /init of the workload "calls": run /calls, bring its JSON lines out by the second serial port or, on machines that
# have one alone, on the console between two marks; power off. If told so, be idle for lead=SECONDS before it runs, and
# for hold=SECONDS after it.
PATH=/bin
busybox mount -t proc proc /proc
busybox mount -t devtmpfs devtmpfs /dev
busybox mount -t tmpfs tmpfs /tmp
cd /tmp || exit
if [ -n "$lead" ]; then
    echo "calls: idle"
    busybox sleep "$lead"
fi
if busybox grep -q console=ttyS0 /proc/cmdline; then
    busybox stty raw -echo < /dev/ttyS1 # raw: a line ends with \n alone
    /calls > /dev/ttyS1
    echo "calls: exit status $?"
else
    /calls > truth
    status=$?
    echo "calls: the truth begins"
    busybox cat truth
    echo "calls: the truth ends"
    echo "calls: exit status $status"
fi
[ -z "$hold" ] || busybox sleep "$hold"
busybox poweroff -f

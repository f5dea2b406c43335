#!/bin/busybox sh
# shellcheck shell=dash
# /init of the workloads "who" and "names": shell and program work, under strace if it is there; then, between marker
# lines in base64 and gzip, on the second serial port or else the console, strace's log and what the tasks said of
# themselves. Given the word "work", this script is the shell's part.
export PATH=/bin

work() {
    mkdir /tmp/shell && cd /tmp/shell || exit
    echo first > out
    echo second >> out
    /bin/cat < out > copy 2>&1
    /bin/ls copy missing > both 2>&1
    /bin/seq 1 40 | /bin/sort -r | /bin/head -n 3 > sorted
    /bin/head -n 1 copy | { read -r line; echo "$line" | /bin/tr '[:lower:]' '[:upper:]' >> out; }
    exec 5> five 6< out
    echo to five >&5
    read -r line <&6
    read -r line <&6 && echo "$line" >&5
    exec 7>&5 5>&- 6<&-
    /bin/echo by seven >&7
    exec 7>&-
    ( cd /etc && /bin/wc -l passwd > /tmp/shell/counted )
    ln -s ../shell around
    /bin/cat around/five around/around/counted > /dev/null
    /bin/cat <<- END > here
		from a here document
	END
    /bin/mkfifo fifo
    /bin/cat fifo > from-fifo &
    echo through a fifo > fifo
    wait
    /bin/sleep 30 &
    /bin/usleep 300000
    /bin/kill $!
    wait
    /bin/mv five six && /bin/rm six copy
    /bin/sh -c 'exit 3'
    /who
}

# bring NAME FILE: FILE comes out between two lines with NAME
bring() {
    {
        echo "=== begin $1"
        gzip -c "$2" | base64
        echo "=== end $1"
    } > "$port"
}

if [ "${1-}" = work ]; then
    work
    exit
fi
busybox mount -t proc proc /proc
busybox mount -t devtmpfs devtmpfs /dev
busybox mount -t tmpfs tmpfs /tmp
busybox --install -s /bin
ln -s /proc/self/fd /dev/fd
ifconfig lo 127.0.0.1 up
cd /tmp || exit
port=/dev/console
# The device is there without the hardware, too; then it cannot be set.
if stty raw -echo < /dev/ttyS1 2> /dev/null; then port=/dev/ttyS1; fi
trace=''
if [ -x /bin/strace ]; then trace='strace -f -yy -v -s 4096 -o /tmp/log'; fi
# Not on the console: the kernel opened that for /init, before any call that could be seen.
$trace /bin/sh /init work < /etc/passwd > /tmp/output 2>&1
echo "who: exit status $?"
cat /tmp/output
bring names /tmp/names
if [ -e /tmp/log ]; then bring strace /tmp/log; fi
busybox poweroff -f

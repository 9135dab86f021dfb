#!/bin/busybox sh
# First process of the initial file system: drivers, then the machine's own file system, read-only.
busybox mount -t proc proc /proc
busybox mount -t sysfs sys /sys
busybox mount -t devtmpfs dev /dev
for driver in /drivers/*; do
    busybox insmod "$driver" 2>/dev/null
done
busybox mount -t virtiofs -o ro host /host
for directory in proc sys dev; do
    busybox mount --move "/$directory" "/host/$directory"
done
wanted() { busybox sed -n "s/.*paas\.$1=\([^ ]*\).*/\1/p" /host/proc/cmdline; }
exec busybox switch_root /host /bin/bash "$(wanted script)"

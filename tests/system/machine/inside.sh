#!/usr/bin/env bash
# What runs inside the machine: version 2 of control groups as Debian has it, then the tests.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/run LC_ALL=C.UTF-8
export PYTHONDONTWRITEBYTECODE=1 TMPDIR=/var/tmp
wanted() { sed -n "s/.*paas\.$1=\([^ ]*\).*/\1/p" /proc/cmdline; }
mount -t tmpfs run /run
mkdir /run/disk
mount /dev/vda /run/disk
mount --bind /run/disk /var/tmp
chmod 1777 /var/tmp
mount -t cgroup2 groups /sys/fs/cgroup
mkdir -p /dev/pts /dev/shm
mount -t devpts terminals /dev/pts
mount -t tmpfs shared /dev/shm
ln -s /proc/self/fd /dev/fd
ln -s fd/0 /dev/stdin
ln -s fd/1 /dev/stdout
ln -s fd/2 /dev/stderr
ip link set lo up
cd "$(wanted tree)" || exit 1
echo "controllers: $(cat /sys/fs/cgroup/cgroup.controllers)"
IFS=, read -r -a tests <<<"$(wanted tests)"
"$(wanted python)" -m pytest -p no:cacheprovider -q --color=no --timeout=150 \
    --basetemp=/var/tmp/tests "${tests[@]}"
echo "ended with $?"
"$(wanted python)" -m pytest -p no:cacheprovider -q --color=no tests/there-is-no-such-test.py
echo "without a test: $?"
sync
echo o >/proc/sysrq-trigger
sleep 10

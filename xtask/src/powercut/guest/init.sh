#!/bin/sh
# The first program of the guest: the store's disk goes under dm-log-writes, and what is to happen there is up to
# `xtask powercut-inside`. Then the power goes off.
export PATH=/bin DM_DISABLE_UDEV=1
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
while read -r module; do
    insmod "$module"
done </modules/order
ip link set lo up

# vda: the store. vdb: the log. vdc: what the client did.
sectors=$(blockdev --getsz /dev/vda)
dmsetup create logged --table "0 $sectors log-writes /dev/vda /dev/vdb"
echo "guest: kernel $(uname -r), write cache of the store's disk: $(cat /sys/block/dm-0/queue/write_cache)"

xtask powercut-inside --seed "$POWERCUT_SEED" --seconds "$POWERCUT_SECONDS" --store /dev/mapper/logged --trace /dev/vdc
echo "guest: the client ended with $?"
dmsetup status logged
# Ends the log with a mark of its own.
dmsetup remove logged
sync
echo "guest: done"
poweroff -f

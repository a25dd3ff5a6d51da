#!/bin/busybox sh
# Process 1 of the guest: mounts, drivers, then the agent. Its end is the guest's end (panic=-1).
export PATH=/bin:/usr/bin PYTHONHOME=/usr PYTHONPATH=/opt/jepsen-blk PYTHONDONTWRITEBYTECODE=1
b=/bin/busybox
$b mount -t devtmpfs dev /dev
$b mount -t proc proc /proc
$b mount -t sysfs sys /sys
exec </dev/console >/dev/console 2>&1
while read -r module; do $b insmod "/lib/modules/$module.ko"; done </lib/modules/order
until set -- /dev/vport*p1 && [ -e "$1" ] && [ -e /dev/vda ]; do $b usleep 10000; done
echo none >/sys/block/vda/queue/scheduler
echo 2 >/sys/block/vda/queue/nomerges   # one request of the workload is one request on the wire
exec python3.11 -S -m workloads.agent --device /dev/vda --port "$1"

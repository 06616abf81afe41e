#!/bin/sh
# The first process in the guest: what a system has, D-Bus, and the job. IDML_JOB and IDML_PYTHON come from the kernel's arguments.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/run/home LANG=C.UTF-8
export PYTHONDONTWRITEBYTECODE=1 TMPDIR=/run/tmp
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t tmpfs run /run
mount -t tmpfs bluetooth /var/lib/bluetooth
mkdir -p /run/home /run/tmp /run/dbus /run/job /dev/shm
mount -t tmpfs shm /dev/shm
mount -t hostfs job /run/job -o "$IDML_JOB"
ip link set lo up
# A network card to nowhere, over which programs here reach each other by multicast.
ip link set dummy0 multicast on up
ip addr add 10.77.0.1/24 dev dummy0
dbus-daemon --system --fork --nopidfile
read -r up _ < /proc/uptime
echo "guest: $(uname -r), up for $up s"
sh /run/job/job.sh < /dev/null
echo $? > /run/job/status
sync
read -r up _ < /proc/uptime
echo "guest: done after $up s"
# Off: the kernel would take the end of its first process for a failure. 0x4321fedc is RB_POWER_OFF.
exec "$IDML_PYTHON" -c 'import ctypes; ctypes.CDLL(None).reboot(0x4321FEDC)'

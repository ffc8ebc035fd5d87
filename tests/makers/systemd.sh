#!/bin/bash
# A real systemd in namespaces of its own, over this machine's files: whatever it and its services write is kept in memory
# and gone with it. The network is the machine's, so that tests reach what it runs.
#
#     systemd.sh boot     stays until systemd ends; needs root
#     systemd.sh in PID COMMAND...    runs a command beside it; PID is of the process that `boot` has become
set -e
if [ "$1" = boot ]; then
    exec unshare --mount --pid --fork --uts --ipc --cgroup --kill-child "$0" boot-inside
elif [ "$1" = boot-inside ]; then
    mount --make-rprivate /
    place=$(mktemp -d /run/varstar-systemd-XXXXXX)
    mount -t tmpfs -o size=2g tmpfs "$place"
    mkdir "$place"/{up,work,root}
    mount -t overlay -o "lowerdir=/,upperdir=$place/up,workdir=$place/work" overlay "$place/root"
    cd "$place/root"
    mount -t proc proc proc
    mount --rbind /sys sys
    mount --rbind /dev dev
    mount -t tmpfs tmpfs run
    # Systemd empties it when it boots.
    mount -t tmpfs tmpfs tmp
    # No services of this machine's, nor what would change its kernel: only what the test installs.
    for unit in sysctl modules-load binfmt remount-fs random-seed udevd udev-trigger update-utmp; do
        ln -sf /dev/null "etc/systemd/system/systemd-$unit.service"
    done
    exec env -i container=varstar PATH=/usr/sbin:/usr/bin:/sbin:/bin \
        chroot "$place/root" /lib/systemd/systemd --unit=basic.target --log-target=console
else
    # The first child of `boot` is PID 1 of the namespaces.
    inside=$(cat "/proc/$2/task/$2/children" | cut -d' ' -f1)
    shift 2
    exec nsenter --target "$inside" --mount --pid --uts --ipc --cgroup --root \
        env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin sh -c 'cd / && exec "$@"' in "$@"
fi

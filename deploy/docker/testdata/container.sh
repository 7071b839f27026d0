#!/usr/bin/env bash
# Runs a program in a root file system as a container runtime would: in
# namespaces of its own, as a user without rights, on a read-only root but for
# its volumes. Called by the tests as root, with the environment the image has:
#
#   container.sh ROOT USER VOLUMES PROGRAM...   VOLUMES: a list with commas
set -euo pipefail
if [[ "${1:-}" != --inside ]]; then
	exec unshare --mount --propagation private --pid --fork --kill-child --net --ipc --uts -- "$0" --inside "$@"
fi
shift
root=$1 user=$2 volumes=$3
shift 3

ip=$(PATH=$PATH:/usr/sbin:/sbin command -v ip)
"$ip" link set lo up
mount --bind "$root" "$root"
for volume in ${volumes//,/ }; do
	mount --bind "$root$volume" "$root$volume"
done
mkdir -p "$root/proc" "$root/dev"
mount -t proc proc "$root/proc"
mount -t tmpfs tmpfs "$root/dev"
for device in null zero full random urandom; do
	touch "$root/dev/$device"
	mount --bind "/dev/$device" "$root/dev/$device"
done
mount -o remount,bind,ro "$root"
exec setpriv --no-new-privs -- /usr/sbin/chroot --userspec="$user" --groups="${user#*:}" "$root" "$@"

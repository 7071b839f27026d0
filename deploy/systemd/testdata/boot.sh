#!/usr/bin/env bash
# Boots systemd as the first process of namespaces of its own, with what
# "make install" installs in an overlay of this host's files, and nothing else
# to start. Called by boot_test.go as root:
#
#   boot.sh TREE BIN   TREE: this repository; BIN: the built programs
#
#   boot.sh TREE BIN sweep    removes what is left of runs that were killed
#
# What systemd says goes to this script's output. Its end, or its caller's, ends
# everything, and nothing is left of it but empty control groups.
set -euo pipefail
tree=$1 bin=$2 step=${3:-outside}

case $step in
outside)
	exec unshare --mount --propagation private -- "$0" "$tree" "$bin" group
	;;
sweep)
	exec unshare --mount --propagation private -- "$0" "$tree" "$bin" swept
	;;
swept)
	mount -t cgroup2 cgroup2 /mnt
	# Those of runs that go on are not empty, and stay.
	find /mnt/raftlock-boot -depth -type d -exec rmdir {} + 2>/dev/null || true
	exit 0
	;;
group)
	# systemd makes control groups below its own: one of its own, to begin with.
	mount -t cgroup2 cgroup2 /mnt
	mkdir -p /mnt/raftlock-boot
	group=$(mktemp -d /mnt/raftlock-boot/run.XXXXXX)
	echo $$ >"$group/cgroup.procs"
	umount /mnt
	exec unshare --pid --fork --kill-child --cgroup --ipc --uts --net --mount-proc -- "$0" "$tree" "$bin" init
	;;
init) ;;
esac

ip link set lo up
mount -t tmpfs tmpfs /mnt
mkdir /mnt/tree /mnt/bin
mount --bind "$tree" /mnt/tree
mount --bind "$bin" /mnt/bin
mount -t tmpfs tmpfs /run
for dir in etc usr var; do
	mkdir -p "/run/over/$dir"
	mount -t tmpfs tmpfs "/run/over/$dir"
	mkdir "/run/over/$dir/upper" "/run/over/$dir/work"
	mount -t overlay overlay -o "lowerdir=/$dir,upperdir=/run/over/$dir/upper,workdir=/run/over/$dir/work" "/$dir"
done
umount -R /sys/fs/cgroup 2>/dev/null || true
mount -t cgroup2 cgroup2 /sys/fs/cgroup

# The real installation, with the files of a host that stands alone.
BIN=/mnt/bin PREFIX=/usr /mnt/tree/deploy/install.sh
systemd-sysusers /usr/lib/sysusers.d/raftlock.conf
mkdir -p /etc/raftlock
cat >/etc/raftlock/sidecar.yaml <<-'YAML'
	name: alone
	bind: 127.0.0.1
	expect: 1
YAML

# systemd finds these units and no others.
units=/run/units
mkdir -p $units/raftlock.service.d
cp /usr/lib/systemd/system/raftlock* $units/
for target in sysinit basic sockets shutdown network-online multi-user; do
	printf '[Unit]\nDescription=%s\nDefaultDependencies=no\n' "$target" >$units/$target.target
done
printf 'Wants=raftlock.socket raftlock-admin.socket raftlock.service\n' >>$units/multi-user.target
# There is no journal here. The watchdog shall not take half a minute to judge.
cat >$units/raftlock.service.d/test.conf <<-'CONF'
	[Service]
	StandardError=append:/run/agent.log
	WatchdogSec=4s
CONF
# What the agent's sandbox lets it read: the unit's own, but for what it runs.
{
	sed -e '/^\[Unit\]/,/^\[Service\]/d' -e '/^\[Install\]/,$d' \
		-e '/^\(Type\|Restart\|RestartSec\|WatchdogSec\|ExecStart\|StateDirectory\|ConfigurationDirectory\)=/d' \
		$units/raftlock.service
	printf 'Type=oneshot\nStandardOutput=append:/run/sandbox.log\n'
	printf 'ExecStart=/bin/cat /proc/1/stat /proc/sys/kernel/random/boot_id\n'
} | { printf '[Unit]\nDefaultDependencies=no\n[Service]\n'; cat; } >$units/sandbox.service

export container=raftlock-test SYSTEMD_UNIT_PATH=$units
exec /lib/systemd/systemd --system --unit=multi-user.target \
	--log-target=console --log-level=info --show-status=no

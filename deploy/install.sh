#!/usr/bin/env bash
# Puts the programs, the units, the user, the shells' completions and the pages
# of docs where systemd, shells and people look for them. "make install" calls
# it. It starts and enables nothing: what to type next it prints.
#
#   BIN      where the built programs are (bin)
#   PREFIX   where they go (/usr); the units follow it
#   DESTDIR  goes before every path, for whoever makes packages
set -euo pipefail
cd "$(dirname "$0")/.."

bin=${BIN:-bin}
prefix=${PREFIX:-/usr}
root=${DESTDIR:-}

# program NAME: copied under another name and renamed, since the running agent's
# file cannot be written to.
program() {
	install -D -m 0755 "$bin/$1" "$root$prefix/bin/.$1.new"
	mv -f "$root$prefix/bin/.$1.new" "$root$prefix/bin/$1"
}
program raftlock-sidecar
program raftlock

units=$root$prefix/lib/systemd/system
install -d "$units"
for unit in raftlock.service raftlock.socket raftlock-admin.socket; do
	sed "s,/usr/bin/,$prefix/bin/,g; s,/usr/share/,$prefix/share/,g" "deploy/systemd/$unit" >"$units/$unit"
	chmod 0644 "$units/$unit"
done
install -D -m 0644 deploy/systemd/raftlock.sysusers.conf "$root$prefix/lib/sysusers.d/raftlock.conf"
install -d -m 0755 "$root/etc/raftlock" # for what the agent is told; nothing is put there

# What the service's Documentation names.
install -d "$root$prefix/share/doc/raftlock"
install -m 0644 docs/*.md docs/*.svg "$root$prefix/share/doc/raftlock"

# complete SHELL FILE: what the tool itself says.
complete() {
	install -d "$root$prefix/share/$(dirname "$2")"
	"$bin/raftlock" completion "$1" >"$root$prefix/share/$2"
}
complete bash bash-completion/completions/raftlock
complete zsh zsh/site-functions/_raftlock
complete fish fish/vendor_completions.d/raftlock.fish

[[ -n "$root" ]] || cat <<-'NEXT'
	installed. To begin:
	  systemd-sysusers                    # makes the user and group raftlock
	  $EDITOR /etc/raftlock/sidecar.yaml  # name, bind, join: see docs
	  systemctl daemon-reload
	  systemctl enable --now raftlock.socket raftlock-admin.socket raftlock.service
NEXT

#!/bin/bash
# Brings everything that the lab needs onto this machine, once: Debian packages, the control plane and containerd (Go tools
# pinned in tools/*/go.mod), the images of the tests. Built things go to ${XDG_CACHE_HOME:-~/.cache}/kubelet-rs, in folders
# named by version, so a second run finds them and takes no time.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/kubelet-rs

say() { printf '%s\n' "$*"; }
die() { printf 'setup: %s\n' "$*" >&2; exit 1; }

# --- what only the user can bring -------------------------------------------------------------------------------------
[ "$(uname -s)" = Linux ] || die "the lab needs Linux (network namespaces, cgroups, nftables)"
[ "$(id -u)" = 0 ] || die "the lab needs root: it makes namespaces and cgroups. Run make as root (for example: sudo -E make demo)"
command -v cargo >/dev/null || die "cargo is not in PATH. Install the Rust toolchain from https://rustup.rs, then run make again"
command -v go >/dev/null || die "go is not in PATH. Install Go 1.26 or newer from https://go.dev/dl, then run make again"
mkdir -p "$cache"

# One at a time: two makes side by side would build the same things twice.
exec 9>"$cache/setup.lock"
flock -n 9 || { say "setup: waiting for another set-up on this machine to finish"; flock 9; }

# --- Debian packages --------------------------------------------------------------------------------------------------
# package:file that shows that it is there
packages="runc:/usr/sbin/runc containernetworking-plugins:/usr/lib/cni/bridge nftables:/usr/sbin/nft iproute2:/sbin/ip
  busybox-static:/bin/busybox util-linux:/usr/bin/unshare procps:/usr/bin/pgrep conntrack:/usr/sbin/conntrack gcc:/usr/bin/cc libc6-dev:/usr/include/stdio.h"
missing=
for pair in $packages; do [ -e "${pair#*:}" ] || missing="$missing ${pair%%:*}"; done
updated=
apt_update() {
  [ -n "$updated" ] || { say "setup: reading the package lists"; apt-get update -qq || die "apt-get update failed: is a Debian mirror in reach?"; updated=yes; }
}
if [ -n "$missing" ]; then
  command -v apt-get >/dev/null || die "these packages are missing, and this is no Debian system to install them on:$missing"
  apt_update
  say "setup: installing$missing"
  # shellcheck disable=SC2086
  DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $missing || die "apt-get could not install:$missing"
fi
for pair in $packages; do [ -e "${pair#*:}" ] || die "package ${pair%%:*} is installed, but ${pair#*:} is not there"; done
# etcd is unpacked and not installed: Debian's package would start an etcd service on this machine.
if [ ! -x "$cache/bin/etcd/etcd" ]; then
  mkdir -p "$cache/bin/etcd"
  if [ -x /usr/bin/etcd ]; then
    cp /usr/bin/etcd "$cache/bin/etcd/etcd.part"
  else
    apt_update
    say "setup: fetching etcd"
    unpacked=$(mktemp -d)
    (cd "$unpacked" && apt-get download -qq -o APT::Sandbox::User=root etcd-server && dpkg-deb -x ./*.deb .) || die "could not fetch Debian's etcd-server package"
    mv "$unpacked/usr/bin/etcd" "$cache/bin/etcd/etcd.part"
    rm -rf "$unpacked"
  fi
  mv "$cache/bin/etcd/etcd.part" "$cache/bin/etcd/etcd"
fi

# --- Go tools ---------------------------------------------------------------------------------------------------------
# build NAME FOLDER OUTPUT [go build arguments]: shows that it moves, and how long it has been at it.
build() {
  local name=$1 folder=$2 output=$3 log started=$SECONDS
  shift 3
  mkdir -p "$(dirname "$output")"
  log=$(dirname "$output")/$name.log
  (cd "$folder" && CGO_ENABLED=0 exec go build -v -trimpath -o "$output.part" "$@") >"$log" 2>&1 9>&- &
  local pid=$! shown=$SECONDS
  while kill -0 $pid 2>/dev/null; do
    sleep 1
    if [ -t 1 ]; then
      printf '\rsetup: building %s: %d s, %d packages ' "$name" $((SECONDS - started)) "$(wc -l <"$log")"
    elif [ $((SECONDS - shown)) -ge 15 ]; then
      shown=$SECONDS
      say "setup: building $name: $((SECONDS - started)) s, $(wc -l <"$log") packages"
    fi
  done
  wait $pid || { tail -n 20 "$log" >&2; die "building $name failed; the whole output is in $log"; }
  mv "$output.part" "$output"
  rm -f "$log"
  [ ! -t 1 ] || printf '\r'
  say "setup: built $name in $((SECONDS - started)) s                    "
}
version_of() { sed -nE "s#^(require )?[[:space:]]*$1 (v[0-9.]+).*#\2#p" "$2" | head -n 1; }
tools_of() { awk '/^tool \(/ {on = 1; next} /^\)/ {on = 0} on {print $1}' "$1"; }

kubernetes=$(version_of k8s.io/kubernetes "$here/tools/kubernetes/go.mod")
containerd=$(version_of github.com/containerd/containerd/v2 "$here/tools/containerd/go.mod")
[ -n "$kubernetes" ] && [ -n "$containerd" ] || die "tools/*/go.mod name no version of kubernetes or containerd"
major=$(echo "${kubernetes#v}" | cut -d. -f1)
minor=$(echo "$kubernetes" | cut -d. -f2)
stamp=k8s.io/component-base/version
kubernetes_flags="-s -w -X $stamp.gitVersion=$kubernetes -X $stamp.gitMajor=$major -X $stamp.gitMinor=$minor -X $stamp.gitTreeState=clean"
containerd_flags="-s -w -X github.com/containerd/containerd/v2/version.Version=$containerd"
go_tools() {
  local module=$1 folder=$2 flags=$3 tool name
  for tool in $(tools_of "$here/tools/$module/go.mod"); do
    name=${tool##*/}
    [ -x "$folder/$name" ] || build "$name" "$here/tools/$module" "$folder/$name" -ldflags "$flags" "$tool"
  done
}
go_tools containerd "$cache/bin/containerd-$containerd" "$containerd_flags"
go_tools kubernetes "$cache/bin/kubernetes-$kubernetes" "$kubernetes_flags"

# --- images -----------------------------------------------------------------------------------------------------------
# Named by what they are made of, so that a changed source makes a new folder.
sources=$(cd "$here/images" && find . -type f | sort)
hash=$(cd "$here/images" && cat $sources /bin/busybox "$here/setup.sh" | sha256sum | cut -c1-16)
images=$cache/images/$hash
if [ ! -e "$images/complete" ]; then
  started=$SECONDS
  say "setup: building the images of the tests"
  mkdir -p "$images"
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  build ocitar "$here/images" "$work/ocitar" ./ocitar
  archive() { "$work/ocitar" -o "$images/$1.tar" "${@:2}"; }

  mkdir -p "$work/pause"
  cc -Os -static -s -o "$work/pause/pause" "$here/images/pause/pause.c" || die "cc could not build pause.c: is libc6-dev whole?"
  archive pause -ref registry.k8s.io/pause:3.10.2 -entrypoint /pause -user 65535:65535 "$work/pause"

  mkdir -p "$work"/busybox/{bin,etc,tmp,root}
  chmod 1777 "$work/busybox/tmp"
  cp /bin/busybox "$work/busybox/bin/busybox"
  for applet in $(/bin/busybox --list); do [ "$applet" = busybox ] || ln -s busybox "$work/busybox/bin/$applet"; done
  printf 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n' >"$work/busybox/etc/passwd"
  printf 'root:x:0:\nnogroup:x:65534:\n' >"$work/busybox/etc/group"
  archive busybox -ref registry.k8s.io/e2e-test-images/busybox:1.37.0-1 -cmd sh "$work/busybox"

  mkdir -p "$work/whoami/tmp"
  chmod 1777 "$work/whoami/tmp"
  build whoami "$here/images" "$work/whoami/whoami" -ldflags "-s -w" ./whoami
  archive whoami -ref kubelet-rs.io/whoami:1 -entrypoint /whoami "$work/whoami"
  touch "$images/complete"
  say "setup: images built in $((SECONDS - started)) s"
fi
ln -sfn "$hash" "$cache/images/current"

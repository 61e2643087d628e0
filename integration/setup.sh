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
[ "$(id -u)" = 0 ] || die "the lab needs root: it makes namespaces and cgroups. Run make as root, with your toolchains:
  sudo env \"PATH=\$PATH\" \"HOME=\$HOME\" make demo"
# What our own files ask for, so that a too old toolchain is named now and not by an error in the middle of a build.
at_least() { [ "$(printf '%s\n' "$1" "$2" | sort -V | head -n 1)" = "$1" ]; }
rust_needed=$(sed -nE 's/^rust-version = "(.*)"/\1/p' "$here/../Cargo.toml")
go_needed=$(sed -nE 's/^go ([0-9.]+)$/\1/p' "$here"/tools/*/go.mod "$here/images/go.mod" | sort -V | tail -n 1)
command -v cargo >/dev/null || die "cargo is not in PATH. Install the Rust toolchain ($rust_needed or newer) from https://rustup.rs, then run make again"
command -v go >/dev/null || die "go is not in PATH. Install Go $go_needed or newer from https://go.dev/dl, then run make again"
rust=$(cargo --version | awk '{print $2}')
at_least "$rust_needed" "${rust%%-*}" || die "cargo is $rust, but $rust_needed or newer is needed: rustup update, or https://rustup.rs"
# From 1.21 on, Go fetches the version that a go.mod asks for by itself, unless told not to.
go=$(cd "$here/tools/containerd" && go env GOVERSION 2>&1 | tail -n 1) || die "go can't build this: $go. Install Go $go_needed or newer from https://go.dev/dl"
at_least "$go_needed" "${go#go}" || die "go is ${go#go}, but $go_needed or newer is needed: https://go.dev/dl"
mkdir -p "$cache"

# One at a time: two makes side by side would build the same things twice.
exec 9>"$cache/setup.lock"
flock -n 9 || { say "setup: waiting for another set-up on this machine to finish"; flock 9; }

# Whatever ends this set-up ends the build that it waits for, too, and takes half-built things along.
building= part= work=
cleanup() { [ -z "$building" ] || kill "$building" 2>/dev/null || true; rm -rf ${part:+"$part"} ${work:+"$work"}; }
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# Debian's kernel has bridge netfilter as a module. Without it, answers between two pods on one bridge bypass the address translation
# of Services. In the first network namespace its files show whether it is there.
bridged=/proc/sys/net/bridge/bridge-nf-call-iptables
[ -e $bridged ] || { modprobe br_netfilter 2>/dev/null && [ -e $bridged ]; } ||
  die "the kernel lacks bridge netfilter, without which pods on one node don't reach each other through Services: run modprobe br_netfilter (in a container: on its host), or use a kernel that has it"

# --- Debian packages --------------------------------------------------------------------------------------------------
# package:file that shows that it is there
packages="runc:/usr/sbin/runc containernetworking-plugins:/usr/lib/cni/bridge nftables:/usr/sbin/nft iproute2:/sbin/ip
  busybox-static:/bin/busybox util-linux:/usr/bin/unshare procps:/usr/bin/pgrep conntrack:/usr/sbin/conntrack gcc:/usr/bin/cc libc6-dev:/usr/include/stdio.h
  make:/usr/bin/make bzip2:/bin/bzip2 curl:/usr/bin/curl netcat-openbsd:/bin/nc.openbsd iptables:/usr/sbin/iptables"
missing=
for pair in $packages; do [ -e "${pair#*:}" ] || missing="$missing ${pair%%:*}"; done
updated=
# Unattended upgrades hold apt's locks for minutes after a machine has started. apt can be told to wait for all of them but for the one of
# the package lists.
apt_update() {
  [ -z "$updated" ] || return 0
  say "setup: reading the package lists"
  local said started=$SECONDS
  until said=$(apt-get update -qq 2>&1); do
    case $said in *"/lists/lock"*) ;; *) die "apt-get update failed: is a Debian mirror in reach? $said" ;; esac
    [ $((SECONDS - started)) -lt 600 ] || die "another program holds the lock of the package lists for ten minutes now: $said"
    say "setup: waiting for another program that reads the package lists ($((SECONDS - started)) s)"
    sleep 10
  done
  updated=yes
}
if [ -n "$missing" ]; then
  command -v apt-get >/dev/null || die "these packages are missing, and this is no Debian system to install them on:$missing"
  apt_update
  say "setup: installing$missing"
  # shellcheck disable=SC2086
  DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=600 install -y --no-install-recommends $missing || die "apt-get could not install:$missing"
fi
for pair in $packages; do [ -e "${pair#*:}" ] || die "package ${pair%%:*} is installed, but ${pair#*:} is not there"; done
# etcd is unpacked and not installed: Debian's package would start an etcd service on this machine.
if [ ! -x "$cache/bin/etcd/etcd" ]; then
  mkdir -p "$cache/bin/etcd"
  part=$cache/bin/etcd/etcd.part.$$
  if [ -x /usr/bin/etcd ]; then
    cp /usr/bin/etcd "$part"
  else
    apt_update
    say "setup: fetching etcd"
    work=$(mktemp -d)
    (cd "$work" && apt-get download -qq -o APT::Sandbox::User=root etcd-server && dpkg-deb -x ./*.deb .) || die "could not fetch Debian's etcd-server package"
    mv "$work/usr/bin/etcd" "$part"
    rm -rf "$work"
  fi
  mv "$part" "$cache/bin/etcd/etcd"
fi

# --- Go tools ---------------------------------------------------------------------------------------------------------
# build NAME FOLDER OUTPUT [-test] [go build arguments]: shows that it moves, and how long it has been at it.
build() {
  local name=$1 folder=$2 output=$3 log started=$SECONDS command=(build)
  shift 3
  # Vetting upstream's tests again takes a quarter of an hour.
  [ "${1:-}" != -test ] || { command=(test -c -vet=off); shift; }
  mkdir -p "$(dirname "$output")"
  log=$(dirname "$output")/$name.log
  part=$output.part.$$
  (cd "$folder" && CGO_ENABLED=0 exec go "${command[@]}" -v -trimpath -o "$part" "$@") >"$log" 2>&1 9>&- &
  building=$!
  local shown=$SECONDS
  while kill -0 $building 2>/dev/null; do
    sleep 1
    if [ -t 1 ]; then
      printf '\rsetup: building %s: %d s, %d packages ' "$name" $((SECONDS - started)) "$(wc -l <"$log")"
    elif [ $((SECONDS - shown)) -ge 15 ]; then
      shown=$SECONDS
      say "setup: building $name: $((SECONDS - started)) s, $(wc -l <"$log") packages"
    fi
  done
  wait $building || { building=; tail -n 20 "$log" >&2; die "building $name failed; the whole output is in $log"; }
  building=
  mv "$part" "$output"
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

# --- upstream's suite ---------------------------------------------------------------------------------------------------
# Only for those who ask for it: it takes minutes more.
[ "${1:-}" = conformance ] || exit 0
suites=$cache/bin/suites-$kubernetes
go_tools suites "$suites" "$kubernetes_flags"
for suite in e2e e2e_node; do
  [ -x "$suites/$suite.test" ] || build $suite.test "$here/tools/suites" "$suites/$suite.test" -test -ldflags "$kubernetes_flags" k8s.io/kubernetes/test/$suite
done

# The suite's shell scripts rely on what its own busybox does and Debian's does not, such as variables with a dash in their names.
busybox=$cache/bin/busybox/busybox
if [ ! -x "$busybox" ]; then
  work=$(mktemp -d)
  say "setup: fetching the sources of busybox"
  mirror=$(awk '/^URIs:/ {print $2; exit}' /etc/apt/sources.list.d/debian.sources 2>/dev/null || true)
  [ -n "$mirror" ] || mirror=$(awk '$1 == "deb" {for (i = 2; i <= NF; i++) if ($i ~ /:\/\//) {print $i; exit}}' /etc/apt/sources.list)
  [ -n "$mirror" ] || die "no Debian mirror is configured in /etc/apt"
  printf 'Types: deb-src\nURIs: %s\nSuites: trixie\nComponents: main\nSigned-By: /usr/share/keyrings/debian-archive-keyring.gpg\n' "$mirror" >"$work/own.sources"
  mkdir -p "$work/lists/partial" "$work/cache/archives/partial"
  own=(-qq -o Dir::Etc::sourcelist="$work/own.sources" -o Dir::Etc::sourceparts=/nonexistent -o Dir::State::lists="$work/lists"
    -o Dir::Cache="$work/cache" -o APT::Sandbox::User=root)
  (cd "$work" && apt-get "${own[@]}" update && apt-get "${own[@]}" source --download-only busybox) || die "could not fetch the sources of busybox from Debian"
  started=$SECONDS
  say "setup: building busybox, about a minute"
  (cd "$work" && mkdir busybox && tar -xjf busybox_*.orig.tar.bz2 -C busybox --strip-components=1 && cd busybox &&
    make defconfig && sed -i -e 's/# CONFIG_STATIC is not set/CONFIG_STATIC=y/' -e 's/^CONFIG_TC=y/# CONFIG_TC is not set/' .config &&
    make -j"$(nproc)") >"$work/log" 2>&1 || { tail -n 20 "$work/log" >&2; die "building busybox failed"; }
  mkdir -p "${busybox%/*}"
  part=$busybox.part.$$
  cp "$work/busybox/busybox" "$part"
  mv "$part" "$busybox"
  rm -rf "$work"
  say "setup: built busybox in $((SECONDS - started)) s"
fi

hash=$(cat "$here/images/ocitar/main.go" "$busybox" "$suites/agnhost" "$suites/nonewprivs" "$suites/regression-issue-74839" "$here/setup.sh" | sha256sum | cut -c1-16)
images=$cache/images/suites-$hash
if [ ! -e "$images/complete" ]; then
  started=$SECONDS
  say "setup: building the images of the suite"
  mkdir -p "$images"
  work=$(mktemp -d)
  build ocitar "$here/images" "$work/ocitar" ./ocitar
  image() { "$work/ocitar" -o "$images/$1.tar" -ref "registry.k8s.io/$2" "${@:3}"; }
  suite_image() { image "$1" "e2e-test-images/$2" "${@:3}"; }
  # Puts one of this machine's programs into an image, with the libraries that it needs.
  with_program() { # root program place
    rm -f "$1/$3"
    install -m 755 "$2" "$1/$3"
    local library
    for library in $(ldd "$2" | grep -o '/[^ ]*'); do [ -e "$1$library" ] || install -D -m 755 "$library" "$1$library"; done
  }
  base=$work/busybox
  mkdir -p "$base"/{bin,etc,root,home,tmp,dev,sbin,usr/bin,usr/sbin,usr/lib,var/spool/mail,var/www}
  chmod 1777 "$base/tmp"
  chmod 700 "$base/root"
  cp "$busybox" "$base/bin/busybox"
  for applet in $("$busybox" --list); do [ "$applet" = busybox ] || ln -s busybox "$base/bin/$applet"; done
  ln -s ../../bin/env "$base/usr/bin/env"
  printf '%s\n' root:x:0:0:root:/root:/bin/sh daemon:x:1:1:daemon:/usr/sbin:/bin/false bin:x:2:2:bin:/bin:/bin/false \
    www-data:x:33:33:www-data:/var/www:/bin/false nobody:x:65534:65534:nobody:/home:/bin/false >"$base/etc/passwd"
  printf '%s\n' root:x:0: daemon:x:1: bin:x:2: tty:x:5: www-data:x:33: users:x:100: nogroup:x:65534: >"$base/etc/group"
  suite_image busybox busybox:1.37.0-1 -cmd sh "$base"
  suite_image dns glibc-dns-testing:2.0.0 -cmd sh "$base"
  suite_image nonroot nonroot:1.5 -cmd sh -user 1234 "$base"
  cp -a "$base" "$work/nonewprivs"
  mkdir -p "$work/nonewprivs/usr/local/bin"
  cp "$suites/nonewprivs" "$work/nonewprivs/usr/local/bin/nnp"
  chmod 6755 "$work/nonewprivs/usr/local/bin/nnp"
  suite_image nonewprivs nonewprivs:1.4 -cmd nnp "$work/nonewprivs"
  # agnhost on busybox in place of Alpine, with Debian's curl and nc, whose options the suite uses. dig is not there.
  agnhost=$work/agnhost
  cp -a "$base" "$agnhost"
  cp "$suites/agnhost" "$agnhost/agnhost"
  ln -s agnhost "$agnhost/agnhost-2"
  # busybox goes by the name that it is called by, and knows none called bash.
  printf '#!/bin/sh\nexec /bin/sh "$@"\n' >"$agnhost/bin/bash"
  chmod 755 "$agnhost/bin/bash"
  ln -s ../../bin/bash "$agnhost/usr/bin/bash"
  with_program "$agnhost" /usr/bin/curl usr/bin/curl
  with_program "$agnhost" /bin/nc.openbsd bin/nc
  # Of what belongs to iptables, the suite uses conntrack.
  cp -a "$base" "$work/iptables"
  with_program "$work/iptables" /usr/sbin/conntrack usr/sbin/conntrack
  image distroless-iptables build-image/distroless-iptables:v0.9.6 -cmd sh "$work/iptables"
  cp -a "$base" "$work/regression"
  cp "$suites/regression-issue-74839" "$work/regression/regression-issue-74839"
  suite_image regression-issue-74839 regression-issue-74839:1.4 -entrypoint /regression-issue-74839 "$work/regression"
  upstream=$(cd "$here/tools/suites" && go list -m -f '{{.Dir}}' k8s.io/kubernetes)/test/images
  install -m 644 "$upstream/agnhost/porter/localhost.crt" "$upstream/agnhost/porter/localhost.key" "$agnhost/"
  mkdir -p "$agnhost/uploads" "$agnhost/home/user-defined-in-image"
  chmod 777 "$agnhost/home/user-defined-in-image"
  echo 'user-defined-in-image:x:1000:1000::/home/user-defined-in-image:/bin/sh' >>"$agnhost/etc/passwd"
  printf '%s\n' user-defined-in-image:x:1000: group-defined-in-image:x:50000:user-defined-in-image >>"$agnhost/etc/group"
  suite_image agnhost agnhost:2.63.0 -entrypoint /agnhost -cmd pause "$agnhost"
  suite_image agnhost-prev agnhost:2.55 -entrypoint /agnhost -cmd pause "$agnhost"
  # What serves a page or only has to run is served by agnhost.
  for name in nautilus kitten; do
    cp -a "$agnhost" "$work/$name"
    install -m 644 "$upstream/$name"/html/* "$work/$name/"
    suite_image $name $name:1.8 -entrypoint "/agnhost" -cmd test-webserver "$work/$name"
  done
  suite_image nginx nginx:1.15-4 -cmd "/agnhost test-webserver" "$agnhost"
  suite_image nginx-new nginx:1.27-0 -cmd "/agnhost test-webserver" "$agnhost"
  rm -rf "$work"
  touch "$images/complete"
  say "setup: images of the suite built in $((SECONDS - started)) s"
fi
ln -sfn "suites-$hash" "$cache/images/suites"

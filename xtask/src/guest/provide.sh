#!/bin/sh
# provide.sh BED: puts into the folder BED what guests are booted from and is not built here: Debian's 6.12 kernel with
# the modules for device mapper, virtio, NBD and ext4, busybox, dmsetup and what makes file systems. QEMU is installed, which takes
# root; the packages of guests are unpacked into BED and nowhere else. Everything that is there already is kept.
set -eu
bed=$1
suite=bookworm-backports
modules='virtio_pci virtio_blk dm_mod dm_log_writes nbd crc32c_generic ext4'

mkdir -p "$bed/apt/parts" "$bed/apt/lists/partial" "$bed/apt/archives/partial"

# apt with Debian's backports added, by lists of its own: what the machine is set up to install from stays as it is.
apt() {
    tool=$1
    shift
    DEBIAN_FRONTEND=noninteractive "$tool" -q \
        -o Dir::Etc::sourcelist=/dev/null -o Dir::Etc::sourceparts="$bed/apt/parts" \
        -o Dir::State::lists="$bed/apt/lists" -o Dir::Cache::archives="$bed/apt/archives" \
        -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache= \
        -o APT::Sandbox::User=root -o DPkg::Lock::Timeout=400 "$@"
}

updated=
update() {
    [ -z "$updated" ] || return 0
    sources=/etc/apt/sources.list.d/debian.sources
    cp "$sources" "$bed/apt/parts/debian.sources"
    sed -n '1,/^$/p' "$sources" | sed -E "s/^(Suites:).*/\1 $suite/" >"$bed/apt/parts/backports.sources"
    apt apt-get update
    updated=yes
}

# The files of a package, in the folder $1.
unpack() {
    folder=$1
    package=$2
    update
    mkdir -p "$bed/deb"
    (cd "$bed/deb" && apt apt-get download "$package")
    dpkg-deb -x "$bed/deb/$package"_*.deb "$folder"
}

provide_qemu() {
    ! command -v qemu-system-x86_64 >/dev/null || return 0
    update
    apt apt-get install -y --no-install-recommends -t "$suite" qemu-system-x86 seabios
}

provide_kernel() {
    [ ! -e "$bed/kernel" ] || return 0
    update
    newest=$(apt apt-cache search '^linux-image-6\.12\.[0-9]+\+deb12-cloud-amd64$' | cut -d' ' -f1 | sort -V | tail -1)
    rm -rf "$bed/kernel.new"
    unpack "$bed/kernel.new" "$newest"
    mv "$bed/kernel.new" "$bed/kernel"
}

provide_busybox() {
    [ ! -e "$bed/busybox" ] || return 0
    unpack "$bed/busybox.new" busybox-static
    cp "$bed/busybox.new/bin/busybox" "$bed/busybox"
}

# The program $2 of the package $3 and every library that it names, each where it looks for it.
add_program() {
    root=$1
    program=$(PATH=$PATH:/usr/sbin:/sbin command -v "$2") || {
        update
        apt apt-get install -y --no-install-recommends "$3"
        program=$(PATH=$PATH:/usr/sbin:/sbin command -v "$2")
    }
    cp "$program" "$root/bin/$2"
    ldd "$program" | grep -o '/[^ ]*' | while read -r library; do
        mkdir -p "$root$(dirname "$library")"
        cp -L "$library" "$root$library"
    done
}

# The modules and what they depend on, uncompressed, in the order in which they are to be loaded.
add_modules() {
    root=$1
    folder=$(echo "$bed"/kernel/lib/modules/*)
    mkdir -p "$root/modules"
    for module in $modules; do
        add_module "$root" "$folder" "$module"
    done
}

add_module() {
    file=$(find "$2/kernel" -name "$(echo "$3" | sed 's/_/[-_]/g').ko*")
    # Built into the kernel, or there already.
    [ -n "$file" ] && [ ! -e "$1/modules/$3.ko" ] || return 0
    "$bed/busybox" xzcat "$file" >"$bed/module.ko"
    needs=$("$bed/busybox" strings "$bed/module.ko" | sed -n 's/^depends=//p' | tr ',-' ' _')
    for need in $needs; do
        (add_module "$1" "$2" "$need")
    done
    "$bed/busybox" xzcat "$file" >"$1/modules/$3.ko"
    echo "/modules/$3.ko" >>"$1/modules/order"
}

provide_root() {
    [ ! -e "$bed/root" ] || return 0
    rm -rf "$bed/root.new"
    mkdir -p "$bed/root.new/bin" "$bed/root.new/proc" "$bed/root.new/sys" "$bed/root.new/dev" "$bed/root.new/tmp" \
        "$bed/root.new/run"
    cp "$bed/busybox" "$bed/root.new/bin/busybox"
    for applet in $("$bed/busybox" --list); do
        [ "$applet" = busybox ] || ln -s busybox "$bed/root.new/bin/$applet"
    done
    add_program "$bed/root.new" dmsetup dmsetup
    add_program "$bed/root.new" mkfs.ext4 e2fsprogs
    add_program "$bed/root.new" e2fsck e2fsprogs
    add_modules "$bed/root.new"
    mv "$bed/root.new" "$bed/root"
    rm -rf "$bed/busybox.new" "$bed/module.ko" "$bed/deb"
}

provide_qemu
provide_kernel
provide_busybox
provide_root

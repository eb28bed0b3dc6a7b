//! What a launch does, a module for each part.

mod born;
mod cgroup;
mod common;
mod domain;
mod emit;
mod gate;
mod libvirt;
mod limits;
mod lxc;
mod moves;
mod proposal;
mod qemu;
mod qemu_line;
mod qemu_reads;

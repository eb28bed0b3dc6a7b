//! Tests on live kernels with many nodes: each boots a virtual machine (`tests/vm/numa-vm`, no KVM
//! needed), runs a script of `tests/vm/` in it and judges what the script printed.
//!
//! They take some minutes, so a plain `cargo test` leaves them out; `make test-vm`, which `make test`
//! calls, runs them. Where a guest cannot be had (no QEMU, no kernel fetched yet, no numad, another
//! kind of CPU) they say why and pass, unless `PLACER_REQUIRE_VM=1`: then that is a failure.

mod advised;
mod batch;
mod caches;
mod domains;
mod fleet;
mod guest;
mod launched;
mod libvirt;
mod moved;
mod ranked;

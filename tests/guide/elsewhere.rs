//! What the guide shows and `tests/guide.rs` cannot run: it needs root, a daemon, a virtual machine or
//! another program's service.

/// Command, file of the test, test.
pub(crate) const TRIED: &[(&str, &str, &str)] = &[
    ("apt install ./target/placer.deb", "packaging/deb-test", "case_install_and_remove"),
    ("PLACER_REPLACE_NUMAD=1 apt install ./target/placer.deb", "tests/vm/libvirt", "the_package"),
    ("apt remove placer", "packaging/deb-test", "case_install_and_remove"),
    ("virsh start web", "tests/vm/libvirt", "start_at_once"),
    ("virsh numatune web", "tests/vm/libvirt", "start_at_once"),
    ("virsh vcpupin web", "tests/vm/libvirt", "start_at_once"),
    ("placer ps", "tests/ps.rs", "ps_tells_where_a_guests_memory_is_and_whether_that_was_advised"),
    (
        "placer launch db.toml",
        "tests/vm/launched.rs",
        "launched_machines_have_each_thread_and_their_ram_where_they_were_advised",
    ),
];

//! What the guide shows and `tests/it/guide.rs` cannot run: it needs root, a daemon, a virtual machine or
//! another program's service.

/// Command, file of the test, test.
pub(crate) const TRIED: &[(&str, &str, &str)] = &[
    ("apt install ./target/placer.deb", "packaging/deb-test", "case_install_and_remove"),
    (
        "dnf install target/dist/placer-0.1.0-1.x86_64.rpm",
        "packaging/rpm-test",
        "installed_it_answers",
    ),
    (
        "dnf swap numad target/dist/placer-numad-0.1.0-1.x86_64.rpm",
        "packaging/rpm-test",
        "one_of_the_two",
    ),
    (
        "cc guest.c $(pkg-config --cflags --libs placer) -o guest",
        "tests/it/libplacer.rs",
        "the_guides_program_runs",
    ),
    ("systemctl enable --now placer.service", "tests/vm/libvirt", "the_package"),
    ("PLACER_REPLACE_NUMAD=1 apt install ./target/placer.deb", "tests/vm/libvirt", "the_package"),
    ("apt remove placer", "packaging/deb-test", "case_install_and_remove"),
    ("virsh start web", "tests/vm/libvirt", "start_at_once"),
    (
        "placer launch web.xml",
        "launcher/tests/it/libvirt.rs",
        "a_domain_is_created_paused_from_its_placed_text_then_resumed",
    ),
    (
        "placer place web",
        "tests/it/launch.rs",
        "a_domain_that_libvirt_has_is_placed_in_its_own_definition",
    ),
    ("mkdir -p /etc/placer/guests", "tests/vm/scopes", "service"),
    ("cp db.toml /etc/placer/guests/db.toml", "tests/vm/scopes", "service"),
    ("systemctl enable --now placer@db", "tests/vm/scopes", "service"),
    ("systemctl stop placer@db", "tests/vm/scopes", "service"),
    (
        "podman --runtime /usr/bin/placer-runc run --cpus 4 --memory 8g IMAGE",
        "tests/vm/containers",
        "podman_run",
    ),
    ("docker run --runtime placer --cpus 4 --memory 8g IMAGE", "tests/vm/containers", "docker_run"),
    (
        "placer daemon --manage",
        "tests/vm/moved.rs",
        "guests_that_run_are_moved_and_put_back_and_killed_moves_are_finished",
    ),
    (
        "placer balance --apply",
        "tests/vm/moved.rs",
        "guests_that_run_are_moved_and_put_back_and_killed_moves_are_finished",
    ),
    ("virsh numatune web", "tests/vm/libvirt", "start_at_once"),
    ("virsh vcpupin web", "tests/vm/libvirt", "start_at_once"),
    (
        "placer ps",
        "tests/it/ps.rs",
        "ps_tells_where_a_guests_memory_is_and_whether_that_was_advised",
    ),
    (
        "placer advise --hold 1m --json 4:8G",
        "tests/it/ps.rs",
        "a_hold_is_listed_with_who_asked_and_when_it_ends",
    ),
    (
        "placer adopt 8cf67f8b --pid 4711",
        "tests/it/attacks.rs",
        "h1_adopt_is_for_the_same_principal_and_for_own_processes",
    ),
    (
        "placer release 8cf67f8b",
        "tests/it/ps.rs",
        "a_hold_is_listed_with_who_asked_and_when_it_ends",
    ),
    ("placer show --html host.html", "tests/it/picture.rs", "text_svg_and_html_say_what_json_says"),
    (
        "placer advise 4:8G --explain --svg why.svg",
        "tests/it/picture.rs",
        "the_readmes_pictures_are_what_the_program_draws",
    ),
    ("placer top", "tests/it/top.rs", "a_request_is_typed_and_the_terminal_is_left_as_it_was"),
    ("placer top 4:8G", "tests/it/top.rs", "a_request_is_typed_and_the_terminal_is_left_as_it_was"),
    (
        "placer record /tmp/this-host",
        "engine/src/source/record/tests.rs",
        "a_copy_answers_as_the_original_and_a_copy_of_it_is_the_same",
    ),
    (
        "placer advise 4:500 --root /tmp/this-host",
        "engine/src/source/record/tests.rs",
        "a_copy_answers_as_the_original_and_a_copy_of_it_is_the_same",
    ),
    ("systemctl enable --now placer", "tests/vm/libvirt", "the_package"),
    (
        "placer advise 4:500 --via daemon",
        "tests/it/daemon.rs",
        "the_answers_are_the_engines_to_the_byte",
    ),
    (
        "curl --unix-socket /run/placer/placer.sock http://placer/metrics",
        "tests/it/daemon.rs",
        "metrics_are_told_in_prometheus_text",
    ),
    (
        "placer launch db.toml",
        "tests/vm/launched.rs",
        "launched_machines_have_each_thread_and_their_ram_where_they_were_advised",
    ),
];

//! A systemd, or its busctl, that does not answer: the guest that waits for it has its claim, and keeps no other from one.

use needs::needs;

use super::beside_a_daemon;
use crate::common::text;

#[needs(root, private_mounts)]
#[test]
fn h5_a_systemd_that_does_not_answer_keeps_no_hold_from_the_ledger_and_a_signal_ends_the_wait() {
    let output = beside_a_daemon(
        "mkdir -p /run/systemd/system /run/bin
        printf '#!/bin/sh\n: >/run/asked\nexec sleep 300\n' >/run/bin/busctl
        chmod 755 /run/bin/busctl
        export PATH=/run/bin:$PATH
        # A host whose cpusets are in cgroup v1 looks as one where they are in v2.
        echo cpuset memory >/run/controllers
        for at in /sys/fs/cgroup /sys/fs/cgroup/unified; do
            [ ! -e $at/cgroup.controllers ] || mount --bind /run/controllers $at/cgroup.controllers
        done
        $PLACER launch --cgroup systemd --memory 8M -- sleep 300 2>/run/launch & LAUNCH=$!
        until [ -e /run/asked ]; do sleep 0.05; done
        for via in engine auto engine auto; do
            $PLACER advise --via $via --hold 10m --json 0.01:1 | grep -c '\"claim\": \"'
        done
        printf '[numad]\\nhold = \"adopt\"\\n' >/run/adopt.toml
        PLACER_CONFIG=/run/adopt.toml $PLACER numad -w 1:1 >/run/nodes
        claims() { $PLACER ps --json | grep -c '\"origin\": \"asked\"' || :; }
        echo claims: $(claims)
        kill -TERM $LAUNCH; status=0; wait $LAUNCH || status=$?
        echo ended: $status, claims: $(claims)
        cat /run/launch; kill $DAEMON",
    );
    let (said, printed) = (text(&output.stderr), text(&output.stdout));
    let (counts, launch) = printed.split_once("placer:").unwrap_or((&printed, ""));
    let claims = "1\n1\n1\n1\nclaims: 6\nended: 2, claims: 5\n";
    assert_eq!(counts, claims, "{said}{launch}");
    // Not the end of systemd's time.
    assert!(launch.contains("SIGTERM came before"), "{launch}{said}");
    assert!(!said.contains("no claim was made"), "{said}");
}

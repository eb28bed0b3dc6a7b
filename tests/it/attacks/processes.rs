//! Processes of strangers: by the name of QEMU, and in control groups that are not theirs.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};

use needs::needs;
use serde_json::Value;

use super::super::principals::STRANGER;
use super::{Users, beside_a_daemon};
use crate::common::daemon::eventually;
use crate::common::{self, run, text};

fn sleeps() -> Child {
    let mut sleep = Command::new("sleep");
    sleep.arg("600").stdin(Stdio::null()).stdout(Stdio::null()).spawn().expect("it starts")
}

#[needs(root)]
#[test]
fn l3_processes_of_a_stranger_by_qemus_name_are_looked_at_once() {
    let tmp = tempfile::tempdir().expect("a directory");
    fs::set_permissions(tmp.path(), fs::Permissions::from_mode(0o755)).expect("set");
    let (state, program) = (tmp.path().join("state"), tmp.path().join("qemu-system-test"));
    common::copy_program("/bin/sh", &program);
    fs::create_dir(&state).expect("made");
    let look = || -> Option<Value> {
        let output = run(common::placer().env("PLACER_STATE_DIR", &state).args(["ps", "--json"]));
        assert!(output.status.success(), "{}", text(&output.stderr));
        let known = fs::read_to_string(state.join("guests.json")).ok()?;
        serde_json::from_str(&known).ok()
    };
    let start = || {
        let mut guest = Command::new(&program);
        guest.args(["-c", "read x", "x", "-m", "10T"]).stdin(Stdio::piped());
        guest.uid(STRANGER).spawn().expect("it starts")
    };
    let is_in = |young: &Value, process: &Child| young.get(process.id().to_string()).is_some();
    // Once more where pids have started over meanwhile: then all processes are looked at, and none is new.
    let (theirs, own, young) = eventually("a look at new processes", || {
        let before = look()?["at_ns"].clone();
        let theirs = Users((0..20).map(|_| start()).collect());
        let own = Users(vec![sleeps()]);
        let after = eventually("another look", || look().filter(|known| known["at_ns"] != before));
        // Those that are looked at again, since they may yet turn into guests.
        let young = after["tried"]["young"].clone();
        is_in(&young, &own.0[0]).then_some((theirs, own, young))
    });
    assert!(theirs.0.len() == 20 && own.0.len() == 1);
    let again = theirs.0.iter().filter(|guest| is_in(&young, guest));
    assert_eq!(again.count(), 0, "{young}");
}

#[needs(root, private_mounts)]
#[test]
fn a_claim_is_not_adopted_for_a_control_group_of_another_user() {
    let output = beside_a_daemon(
        "id=$(as_user 65534 $PLACER advise --hold 5m --json 0:1 | sed -n 's/.*\"claim\": \"\\(.*\\)\".*/\\1/p')
        mount -t cgroup2 none /sys/fs/cgroup
        group=/sys/fs/cgroup/placer-adopt-$(cat /proc/sys/kernel/random/uuid); mkdir $group
        setpriv --reuid 65534 --regid 65534 --clear-groups sleep 300 & GUEST=$!
        trap 'kill $GUEST; wait $GUEST || :; rmdir $group' EXIT
        adopt() { as_user 65534 $PLACER adopt $id --pid $GUEST --cgroup 2>&1 | tail -1; }
        adopt
        echo $GUEST >$group/cgroup.procs
        adopt
        chown 65534 $group
        adopt
        $PLACER ps --json | grep '\"kind\"'
        kill $DAEMON",
    );
    let (said, printed) = (text(&output.stderr), text(&output.stdout));
    let lines: Vec<&str> = printed.lines().collect();
    assert_eq!(lines.len(), 4, "{printed}{said}");
    assert!(lines[0].ends_with("is in no cgroup (v2) of its own"), "{printed}");
    let refused = "does not belong to user 65534";
    assert!(lines[1].contains("control group /placer-adopt-"), "{printed}");
    assert!(lines[1].ends_with(refused), "{printed}");
    assert!(lines[2].contains(" is the claim of the control group of process "), "{printed}");
    assert_eq!(lines[3].trim(), "\"kind\": \"cgroup\",", "{printed}");
}

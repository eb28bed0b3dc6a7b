//! Where a guest's control group goes, what is done for it, and that nothing of it stays.

use testkit::fake;

use std::path::Path;

use fake::{Fake, get, guest, put};
use nix::errno::Errno;
use placer_engine::{CpuId, NodeId};
use placer_launcher::cgroup::{Cpuset, Group, Kernel, Planned, Tree, plan};
use placer_launcher::guest::{CgroupMode, Guest, Lxc, Program, Qemu};
use placer_launcher::{Binding, LaunchError, MemoryMode, Step};

/// A binding to CPUs 0 and 1 and node 0.
fn binding(mode: MemoryMode) -> Binding {
    Binding {
        cpus: [CpuId(0), CpuId(1)].into_iter().collect(),
        memory: [NodeId(0)].into_iter().collect(),
        preferred: [NodeId(0)].into_iter().collect(),
        mode,
    }
}

fn planned(fake: &Fake, tree: &Tree, mode: CgroupMode, parent: Option<&str>) -> Planned {
    plan(fake, tree, &guest(mode, parent), &binding(MemoryMode::Strict)).expect("a plan")
}

fn refused(fake: &Fake, tree: &Tree, mode: CgroupMode, parent: Option<&str>) -> LaunchError {
    plan(fake, tree, &guest(mode, parent), &binding(MemoryMode::Strict)).expect_err("a refusal")
}

/// The steps as shown, with the root of the tree and this process' pid by name.
fn shown(fake: &Fake, planned: &Planned) -> Vec<String> {
    let root = fake.root().to_str().expect("a plain path");
    let pid = std::process::id().to_string();
    let line = |step: &_| format!("{step}").replace(root, "").replace(&pid, "PID");
    planned.steps.iter().map(line).collect()
}

const GROUP: [&str; 5] = [
    "group   make /placer-g.PID",
    "group   cpuset.cpus 0-1",
    "group   cpuset.mems 0",
    "group   start in /placer-g.PID",
    "group   remove /placer-g.PID at the end",
];

fn below(parent: &str) -> Vec<String> {
    GROUP.iter().map(|line| line.replace("/placer", &format!("{parent}/placer"))).collect()
}

#[test]
fn without_systemd_the_first_group_is_used() {
    let fake = Fake::new("cpuset cpu memory");
    let planned = planned(&fake, &fake.tree("/", false), CgroupMode::Own, None);
    let lines = shown(&fake, &planned);
    assert_eq!(lines[0], "group   enable cpuset memory in ");
    assert_eq!(lines[1..], below(""));
}

#[test]
fn steps_of_the_group_are_around_those_of_the_process() {
    let fake = Fake::new("cpuset");
    let planned = planned(&fake, &fake.tree("/", false), CgroupMode::Own, None);
    let binding = binding(MemoryMode::Strict);
    let steps = planned.around(binding.steps(vec!["true".into()]));
    let kinds: String = steps.iter().map(|step| step.to_string()[..6].to_owned()).collect();
    assert_eq!(kinds, "group group group group group cpus  memoryexec  group ");
    assert!(matches!(steps.last(), Some(Step::Group(_))));
}

#[test]
fn only_strict_memory_is_held_by_the_cpuset() {
    let fake = Fake::new("cpuset");
    for &mode in MemoryMode::ALL {
        let guest = guest(CgroupMode::Own, None);
        let planned = plan(&fake, &fake.tree("/", false), &guest, &binding(mode)).expect("a plan");
        let held = shown(&fake, &planned).iter().any(|line| line.contains("cpuset.mems"));
        assert_eq!(held, mode == MemoryMode::Strict, "{mode}");
    }
}

#[test]
fn a_delegated_group_is_looked_for_around_the_launcher() {
    let fake = Fake::new("cpuset memory");
    let unit = fake.group("system.slice/a.service", "cpuset memory");
    let inner = fake.group("system.slice/a.service/supervisor", "");
    fake.marked.borrow_mut().insert(unit);
    put(&inner.join("cgroup.procs"), "1\n2\n");
    let tree = fake.tree("/system.slice/a.service/supervisor", true);
    let lines = shown(&fake, &planned(&fake, &tree, CgroupMode::Own, None));
    assert_eq!(lines[0], "group   enable cpuset memory in /system.slice/a.service");
    assert_eq!(lines[1..], below("/system.slice/a.service"));
}

#[test]
fn a_launcher_alone_in_its_group_moves_out_of_the_way() {
    let fake = Fake::new("cpuset memory");
    let unit = fake.group("run-1.scope", "cpuset memory");
    put(&unit.join("cgroup.procs"), &format!("{}\n", std::process::id()));
    fake.marked.borrow_mut().insert(unit.clone());
    let tree = fake.tree("/run-1.scope", true);
    let planned = planned(&fake, &tree, CgroupMode::Own, None);
    let lines = shown(&fake, &planned);
    let first = [
        "group   move the launcher to /run-1.scope/launcher.PID",
        "group   enable cpuset memory in /run-1.scope",
    ];
    assert_eq!(lines[..2], first);
    assert_eq!(lines[2..], below("/run-1.scope"));
    // And back, in reverse order.
    let group = Group::make(&fake, &planned.steps).expect("made").expect("a group");
    assert_eq!(get(&unit.join("cgroup.subtree_control")), "cpuset memory");
    fake.calls.borrow_mut().clear();
    group.remove().expect("removed");
    let pid = std::process::id().to_string();
    let calls = fake.calls.borrow().iter().map(|c| c.replace(&pid, "PID")).collect::<Vec<_>>();
    let looks = |call: &String| call.starts_with("list") || call.starts_with("read");
    assert_eq!(
        calls.into_iter().filter(|call| !looks(call)).collect::<Vec<_>>(),
        [
            "remove run-1.scope/placer-g.PID",
            "write \"-cpuset -memory\" to run-1.scope/cgroup.subtree_control",
            "write \"PID\" to run-1.scope/cgroup.procs",
            "remove run-1.scope/launcher.PID",
        ]
    );
    assert_eq!(fake.groups(), [unit]);
    // Not so if others are in there too.
    put(&fake.root().join("run-1.scope/cgroup.procs"), &format!("{pid}\n1\n"));
    let error = refused(&fake, &tree, CgroupMode::Own, None).to_string();
    assert!(error.contains("other processes run in "), "{error}");
}

#[test]
fn a_tree_of_systemds_is_left_alone() {
    let fake = Fake::new("cpuset memory");
    fake.group("user.slice/session-1.scope", "cpuset memory");
    let tree = fake.tree("/user.slice/session-1.scope", true);
    let error = refused(&fake, &tree, CgroupMode::Own, None);
    assert_eq!(error.errno(), Errno::EPERM);
    assert!(
        error.to_string().contains("session-1.scope is not delegated to this process ("),
        "{error}"
    );
    // A unit inside of a delegated one is a user's systemd's own.
    fake.group("user@1.service/app.slice/x.scope", "cpuset memory");
    fake.marked.borrow_mut().insert(fake.root().join("user@1.service"));
    let tree = fake.tree("/user@1.service/app.slice/x.scope", true);
    assert_eq!(refused(&fake, &tree, CgroupMode::Own, None).errno(), Errno::EPERM);
    // Named: used as it is, or not at all.
    fake.group("guests.slice/x", "cpuset memory");
    let lines = shown(&fake, &planned(&fake, &tree, CgroupMode::Own, Some("guests.slice")));
    assert_eq!(lines, below("/guests.slice"));
    let error = refused(&fake, &tree, CgroupMode::Own, Some("/guests.slice/x")).to_string();
    assert!(error.contains("it is not delegated to this process (its owner can write"), "{error}");
    assert_eq!(fake.calls.borrow().iter().filter(|call| !call.starts_with("read")).count(), 0);
}

#[test]
fn a_named_group_may_be_written_in_each_way_and_must_be_there() {
    let fake = Fake::new("cpuset");
    fake.group("guests/x", "cpuset");
    let tree = fake.tree("/", false);
    let whole = fake.root().join("guests");
    for name in ["guests", "/guests", "guests/", "./guests", whole.to_str().expect("plain")] {
        let lines = shown(&fake, &planned(&fake, &tree, CgroupMode::Auto, Some(name)));
        assert_eq!(lines, below("/guests"), "{name}");
    }
    let error = refused(&fake, &tree, CgroupMode::Own, Some("no/such")).to_string();
    assert!(error.contains("no/such/cgroup.controllers: No such file or directory"), "{error}");
    for name in ["..", "guests/../..", "/../x"] {
        assert_eq!(refused(&fake, &tree, CgroupMode::Own, Some(name)).errno(), Errno::EINVAL);
    }
    fake.group("bare/x", "");
    put(&fake.root().join("bare/cgroup.controllers"), "");
    let error = refused(&fake, &tree, CgroupMode::Own, Some("bare")).to_string();
    assert!(error.contains("it has no cpuset controller"), "{error}");
}

#[test]
fn auto_is_none_but_for_containers_that_can_have_one() {
    let fake = Fake::new("cpuset");
    let tree = fake.tree("/", false);
    assert_eq!(planned(&fake, &tree, CgroupMode::Auto, None), Planned::default());
    assert_eq!(planned(&fake, &tree, CgroupMode::None, Some("x")), Planned::default());
    let mut container = guest(CgroupMode::Auto, None);
    container.program = Program::Lxc(Lxc::default());
    let of = |tree: &Tree| plan(&fake, tree, &container, &binding(MemoryMode::Strict));
    let lines = shown(&fake, &of(&tree).expect("a plan"));
    assert_eq!(lines.len(), 7);
    // LXC makes groups of its own inside.
    assert_eq!(
        lines[4..],
        [
            "group   make /placer-g.PID/lxc",
            "group   start in /placer-g.PID/lxc",
            "group   remove /placer-g.PID at the end",
        ]
    );
    // No error, no note: nobody asked for it.
    let user = Tree { root: false, ..fake.tree("/user.slice", true) };
    assert_eq!(of(&user), Ok(Planned::default()));
}

#[test]
fn hosts_with_cpusets_in_cgroup_v1_get_none_and_a_note() {
    let fake = Fake::new("cpuset");
    let tree = Tree { cpuset: Cpuset::V1, ..fake.tree("/", false) };
    let planned = planned(&fake, &tree, CgroupMode::Own, None);
    assert!(planned.steps.is_empty());
    assert_eq!(
        planned.notes,
        [
            "the guest gets no control group, only affinity and policy: this host has its cpusets in \
          cgroup v1"
        ]
    );
}

#[test]
fn systemd_is_asked_for_what_a_group_of_our_own_would_have() {
    let fake = Fake::new("cpuset");
    let tree = fake.tree("/user.slice/session-1.scope", true);
    let lines = shown(&fake, &planned(&fake, &tree, CgroupMode::Systemd, Some("machine.slice")));
    let scope = "group   systemd placer-g-PID.scope in machine.slice\n\
                 group   AllowedCPUs=0-1\ngroup   AllowedMemoryNodes=0";
    assert_eq!(lines, [scope]);
    // Only strict memory is held.
    for &mode in MemoryMode::ALL {
        let guest = guest(CgroupMode::Systemd, None);
        let planned = plan(&fake, &tree, &guest, &binding(mode)).expect("a plan");
        let held = shown(&fake, &planned).iter().any(|line| line.contains("AllowedMemoryNodes"));
        assert_eq!(held, mode == MemoryMode::Strict, "{mode}");
    }
    // By itself for containers and machines, where no group was delegated and root asks; not for a machine in a
    // service of systemd's, and for no command.
    let auto = |program: &Program, tree: &Tree| {
        let guest = Guest { program: program.clone(), ..guest(CgroupMode::Auto, None) };
        let planned = plan(&fake, tree, &guest, &binding(MemoryMode::Strict)).expect("a plan");
        (planned.steps.len(), planned.optional, planned.notes.len())
    };
    let (lxc, qemu) = (Program::Lxc(Lxc::default()), Program::Qemu(Qemu::default()));
    let service = fake.tree("/system.slice/vm.service", true);
    let user = Tree { root: false, ..tree.clone() };
    for (program, tree, wanted) in [
        (&Program::Command(Vec::new()), &tree, (0, false, 0)),
        (&lxc, &tree, (1, false, 0)),
        (&lxc, &service, (1, false, 0)),
        (&lxc, &user, (0, false, 0)),
        (&qemu, &tree, (1, true, 0)),
        (&qemu, &service, (0, false, 1)),
        (&qemu, &user, (0, false, 1)),
    ] {
        assert_eq!(auto(program, tree), wanted, "{program:?} in {}", tree.own);
    }
    // Where the host has its cpusets elsewhere: none, and a note.
    let planned = planned(&fake, &Tree { cpuset: Cpuset::V1, ..tree }, CgroupMode::Systemd, None);
    assert_eq!((planned.steps.len(), planned.notes.len()), (0, 1));
}

#[test]
fn systemd_that_cannot_be_asked_is_told() {
    let fake = Fake::new("cpuset");
    for (systemd, parent, why) in [
        (false, None, "systemd does not run this host"),
        (true, Some("/vms"), "its parent has to be a slice"),
    ] {
        let tree = fake.tree("/", systemd);
        let error = refused(&fake, &tree, CgroupMode::Systemd, parent).to_string();
        assert!(error.contains(why), "{error}");
        assert!(error.starts_with("cannot make the systemd scope placer-g-"), "{error}");
    }
}

#[test]
fn lists_that_are_not_allowed_as_a_whole_are_errors() {
    let fake = Fake::new("cpuset");
    let planned = planned(&fake, &fake.tree("/", false), CgroupMode::Own, None);
    fake.narrowed.set(Some("0"));
    let error = Group::make(&fake, &planned.steps).expect_err("too little").to_string();
    assert!(error.starts_with("cannot write \"0-1\" to ") && error.contains("cpuset.cpus"));
    assert!(error.contains("the groups around it allow only \"0\" of these"), "{error}");
    assert!(fake.groups().is_empty());
}

#[test]
fn what_killed_launchers_left_is_removed_and_what_lives_is_not() {
    let fake = Fake::new("cpuset");
    let tree = fake.tree("/", false);
    fake.group("placer-dead.1/lxc.payload", "");
    let busy = fake.group("placer-busy.1", "");
    put(&busy.join("cgroup.procs"), &std::os::unix::process::parent_id().to_string());
    put(&busy.join("cgroup.events"), "populated 1\nfrozen 0\n");
    let inner = fake.group("placer-busy.1/inner", "");
    let other = fake.group("placer", "");
    let unit = fake.group("placer-exporter.service", "");
    let held = fake.group("placer-held.1", "");
    let open = fake.open_dir(&held).expect("opened");
    fake.lock(std::os::fd::AsFd::as_fd(&open)).expect("locked");
    let planned = planned(&fake, &tree, CgroupMode::Own, None);
    let group = Group::make(&fake, &planned.steps).expect("made").expect("a group");
    let mut expected = vec![busy, inner, other, unit, held, group.dir().to_owned()];
    expected.sort();
    assert_eq!(fake.groups(), expected);
    let claimed = group.claimed(&tree).expect("in the tree");
    assert_eq!(
        Path::new(&claimed.path),
        Path::new("/").join(group.dir().file_name().expect("one"))
    );
    drop(group);
    assert_eq!(fake.groups().len(), 5);
}

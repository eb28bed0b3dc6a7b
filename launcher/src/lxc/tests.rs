use std::path::PathBuf;

use super::*;
use crate::cgroup::GroupStep;
use crate::emit::samples::binding;
use crate::guest::MemoryMode;

fn tree(cpuset: Cpuset) -> Tree {
    Tree { mount: None, own: "/".to_owned(), cpuset, systemd: false, root: true }
}

fn grouped() -> Planned {
    let steps = vec![GroupStep::Make { dir: PathBuf::from("/g") }];
    Planned { steps, ..Planned::default() }
}

fn shell(root: LxcRoot) -> Lxc {
    let args = vec!["-c".to_owned(), "exit 7".to_owned()];
    Lxc { root, init: Some("/bin/sh".to_owned()), args, config: Vec::new() }
}

fn line(lxc: &Lxc, tree: &Tree, planned: &Planned) -> Result<String, String> {
    let name = "web 1".parse().unwrap();
    let binding = binding(&[2, 3], &[1], MemoryMode::Strict);
    let argv = argv(&name, lxc, &binding, tree, planned).map_err(|error| error.to_string())?;
    Ok(argv.iter().map(|arg| crate::quote::quoted(arg)).collect::<Vec<_>>().join(" "))
}

#[test]
fn a_program_in_a_group_of_the_launchers() {
    assert_eq!(
        line(&shell(LxcRoot::Host), &tree(Cpuset::V2), &grouped()).unwrap(),
        "lxc-execute '--name=web 1' --rcfile=/dev/null --define lxc.mount.auto=proc:mixed \
         --define lxc.console.path=none --define lxc.cgroup.relative=1 -- /bin/sh -c 'exit 7'"
    );
}

#[test]
fn without_such_a_group_lxc_holds_its_own() {
    let none = Planned::default();
    let lxc = shell(LxcRoot::Directory("/srv/web".to_owned()));
    let expected = |held: &str| {
        format!(
            "lxc-execute '--name=web 1' --rcfile=/dev/null \
             --define lxc.rootfs.path=dir:/srv/web \
             --define 'lxc.mount.auto=proc:mixed sys:mixed' \
             --define lxc.console.path=none {held}-- /bin/sh -c 'exit 7'"
        )
    };
    for (cpuset, held) in [
        (Cpuset::V2, "--define lxc.cgroup2.cpuset.cpus=2-3 --define lxc.cgroup2.cpuset.mems=1 "),
        (Cpuset::V1, "--define lxc.cgroup.cpuset.cpus=2-3 --define lxc.cgroup.cpuset.mems=1 "),
        (Cpuset::Missing, ""),
    ] {
        assert_eq!(line(&lxc, &tree(cpuset), &none).unwrap(), expected(held));
    }
    // No group of a user's has a cpuset that was not delegated: a container with one cannot start.
    let users = Tree { root: false, ..tree(Cpuset::V2) };
    assert_eq!(line(&lxc, &users, &none).unwrap(), expected(""));
}

#[test]
fn systems_have_their_init_as_process_1() {
    let tree = tree(Cpuset::Missing);
    let none = Planned::default();
    let container = Lxc { root: LxcRoot::Container("c1".to_owned()), ..Lxc::default() };
    assert_eq!(line(&container, &tree, &none).unwrap(), "lxc-start --foreground --name=c1");
    let mut lxc = shell(LxcRoot::Directory("/srv".to_owned()));
    lxc.init = Some("/lib/systemd/systemd".to_owned());
    lxc.args.clear();
    assert_eq!(
        line(&lxc, &tree, &none).unwrap(),
        "lxc-start --foreground '--name=web 1' --rcfile=/dev/null --define \
         lxc.rootfs.path=dir:/srv --define 'lxc.mount.auto=proc:mixed sys:mixed' -- \
         /lib/systemd/systemd"
    );
    for (init, system) in [("/sbin/init", true), ("init", true), ("/bin/tini", false), ("", false)]
    {
        assert_eq!(is_system(init), system, "{init}");
    }
}

#[test]
fn what_the_definition_says_goes_before_what_is_usual() {
    let mut lxc = shell(LxcRoot::Host);
    let config = [("lxc.mount.auto", "proc:rw"), ("lxc.console.path", "/x"), ("lxc.a", "b = c")];
    lxc.config = config.map(|(key, value)| (key.to_owned(), value.to_owned())).to_vec();
    assert_eq!(
        line(&lxc, &tree(Cpuset::Missing), &Planned::default()).unwrap(),
        "lxc-execute '--name=web 1' --rcfile=/dev/null --define lxc.mount.auto=proc:rw --define \
         lxc.console.path=/x --define 'lxc.a=b = c' -- /bin/sh -c 'exit 7'"
    );
}

#[test]
fn what_contradicts_the_binding_is_refused() {
    let mut lxc = shell(LxcRoot::Host);
    let tree = tree(Cpuset::V2);
    lxc.config = vec![("lxc.cgroup2.cpuset.mems".to_owned(), "0".to_owned())];
    let error = line(&lxc, &tree, &Planned::default()).unwrap_err();
    assert!(error.starts_with("cannot start the container \"web 1\": "), "{error}");
    assert!(error.contains("lxc.cgroup2.cpuset.mems is placer's to set"), "{error}");
    lxc.config = vec![("lxc.cgroup.dir".to_owned(), "x".to_owned())];
    assert!(line(&lxc, &tree, &grouped()).is_err());
    assert!(line(&lxc, &tree, &Planned::default()).is_ok());
    lxc = Lxc::default();
    let error = line(&lxc, &tree, &Planned::default()).unwrap_err();
    assert!(error.contains("its init must be named"), "{error}");
    lxc.config = vec![("lxc.init.cmd".to_owned(), "/bin/tini".to_owned())];
    assert!(line(&lxc, &tree, &Planned::default()).is_ok());
}

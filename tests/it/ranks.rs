//! `placer launch --ranks`: the ranks of a step are placed by the first of them, each near its GPU.

#![allow(clippy::panic, reason = "a test may stop where it stands")]

use crate::common;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use common::{ids, json, placer, run, text};
use testkit::machine::{Machine, put_file, scratch};

/// A host with two nodes of 32 CPUs: 16 cores of two threads, four to a cache; and with GPUs on these nodes.
fn host(gpus: &[u32]) -> tempfile::TempDir {
    let dir = scratch();
    let node = |host: Machine, id: u32| host.node(id, cpus_of(id), 64 << 20, 60 << 20);
    node(node(Machine::new().threads(2), 0), 1).write(dir.path());
    for cpu in 0..64 {
        let put = |file: &str, text: String| {
            put_file(dir.path(), &format!("sys/devices/system/cpu/cpu{cpu}/{file}"), text);
        };
        let core = cpu % 32;
        put("topology/thread_siblings_list", format!("{core},{}\n", core + 32));
        put("cache/index3/level", "3\n".to_owned());
        put("cache/index3/size", "32768K\n".to_owned());
        put("cache/index3/shared_cpu_list", format!("{}\n", cache_of(core)));
    }
    for (at, node) in gpus.iter().enumerate() {
        let device = format!("sys/bus/pci/devices/0000:{:02x}:00.0", 0x10 + at);
        put_file(dir.path(), &format!("{device}/class"), "0x030200\n");
        put_file(dir.path(), &format!("{device}/numa_node"), format!("{node}\n"));
        put_file(dir.path(), &format!("{device}/unique_id"), format!("abcdef000000000{at}\n"));
    }
    dir
}

fn cpus_of(node: u32) -> impl Iterator<Item = u32> {
    (node * 16..node * 16 + 16).chain(node * 16 + 32..node * 16 + 48)
}

fn cache_of(core: u32) -> String {
    let first = core / 4 * 4;
    format!("{first}-{},{}-{}", first + 3, first + 32, first + 35)
}

type Variables<'a> = &'a [(&'a str, &'a str)];

/// Returns one rank's command.
fn rank(at: usize, count: usize, variables: Variables<'_>) -> Command {
    let mut command = placer();
    command.env("PLACER_LOCAL_RANK", at.to_string()).env("PLACER_LOCAL_SIZE", count.to_string());
    command.envs(variables.iter().copied());
    command
}

fn dry(host: &Path, at: usize, count: usize, variables: Variables<'_>, args: &[&str]) -> Output {
    let mut command = rank(at, count, variables);
    command.args(["launch", "--ranks", "--dry-run", "--root"]).arg(host).args(args);
    run(command.args(["--", "true"]))
}

/// A line of a dry run, behind its first word.
fn line(output: &Output, word: &str) -> String {
    let said = text(&output.stdout);
    let found = said.lines().find_map(|line| line.strip_prefix(word));
    let found = found.unwrap_or_else(|| panic!("{word}: {said}{}", text(&output.stderr)));
    found.trim().to_owned()
}

/// Returns the CPUs of all ranks, and holds that no two share one.
fn all(host: &Path, count: usize, variables: Variables<'_>, args: &[&str]) -> Vec<BTreeSet<u32>> {
    let of = |at| ids(&line(&dry(host, at, count, variables, args), "cpus"));
    let all: Vec<BTreeSet<u32>> = (0..count).map(of).collect();
    let different: BTreeSet<u32> = all.iter().flatten().copied().collect();
    let together: usize = all.iter().map(BTreeSet::len).sum();
    assert_eq!(different.len(), together, "two ranks share a CPU: {all:?}");
    all
}

fn node_of(cpus: &BTreeSet<u32>) -> Option<u32> {
    (0..2).find(|&node| cpus.is_subset(&cpus_of(node).collect()))
}

#[test]
fn each_rank_is_on_the_node_of_its_gpu_in_one_cache_with_whole_cores() {
    // In no order that ranks would have by chance.
    let gpus = [1, 0, 1, 1, 0, 0, 1, 0];
    let host = host(&gpus);
    let uuids: Vec<String> =
        [7, 0, 1, 2, 3, 4, 5, 6].iter().map(|at| format!("GPU-abcdef000000000{at}")).collect();
    let turned = [gpus[7], gpus[0], gpus[1], gpus[2], gpus[3], gpus[4], gpus[5], gpus[6]];
    let cases: [(Variables<'_>, [u32; 8]); 5] = [
        (&[("CUDA_VISIBLE_DEVICES", "0,1,2,3,4,5,6,7")], gpus),
        (&[("CUDA_VISIBLE_DEVICES", &uuids.join(","))], turned),
        (&[("ROCR_VISIBLE_DEVICES", "7,0,1,2,3,4,5,6")], turned),
        // HIP counts what ROCr leaves.
        (
            &[
                ("ROCR_VISIBLE_DEVICES", "0,1,2,3,4,5,6,7"),
                ("HIP_VISIBLE_DEVICES", "7,0,1,2,3,4,5,6"),
            ],
            turned,
        ),
        // Slurm's control group shows each task its own GPU as the first.
        (&[("SLURM_STEP_GPUS", "0-7"), ("CUDA_VISIBLE_DEVICES", "0")], gpus),
    ];
    for (variables, nodes) in cases {
        let all = all(host.path(), 8, variables, &["--cpus", "4"]);
        for (cpus, node) in all.iter().zip(nodes) {
            assert_eq!(node_of(cpus), Some(node), "{variables:?}: {all:?}");
            let first = *cpus.first().expect("CPUs");
            assert_eq!(*cpus, ids(&cache_of(first % 32)), "{variables:?}: {all:?}");
        }
    }
    // torchrun's ranks see all GPUs.
    let torch = |at: usize| {
        let variables = [("LOCAL_RANK", at.to_string()), ("LOCAL_WORLD_SIZE", "8".to_owned())];
        let mut command = placer();
        command.envs(variables).args(["launch", "--ranks", "--dry-run", "--root"]);
        ids(&line(&run(command.arg(host.path()).args(["--", "true"])), "cpus"))
    };
    let places: Vec<Option<u32>> = (0..8).map(|at| node_of(&torch(at))).collect();
    assert_eq!(places, gpus.map(Some));
}

#[test]
fn what_the_step_may_use_is_divided_equally() {
    let host = host(&[]);
    for (count, cores) in [(1, 32), (2, 16), (3, 10), (8, 4), (32, 1)] {
        let all = all(host.path(), count, &[], &[]);
        assert!(all.iter().all(|cpus| cpus.len() == 2 * cores), "{count} ranks: {all:?}");
        let shown = dry(host.path(), 0, count, &[], &[]);
        assert_eq!(line(&shown, "set"), format!("OMP_NUM_THREADS={cores}"));
        // Nobody says how much the whole host's memory is theirs.
        assert!(line(&shown, "memory").starts_with("preferred on "), "{}", text(&shown.stdout));
    }
    // What is asked for are cores as long as there are enough, then all threads of fewer cores.
    for (cpus, held, threads) in [("4", 8, "4"), ("8", 8, "8"), ("7", 8, "7")] {
        let all = all(host.path(), 8, &[], &["--cpus", cpus]);
        assert!(all.iter().all(|rank| rank.len() == held), "--cpus {cpus}: {all:?}");
        assert!(all.iter().all(|rank| rank.iter().all(|cpu| rank.contains(&(cpu ^ 32)))));
        let shown = dry(host.path(), 0, 8, &[], &["--cpus", cpus]);
        assert_eq!(line(&shown, "set"), format!("OMP_NUM_THREADS={threads}"));
    }
    // More ranks than cores: hardware threads.
    let threads = all(host.path(), 40, &[], &[]);
    assert!(threads.iter().all(|cpus| cpus.len() == 1), "{threads:?}");
    let crowd = dry(host.path(), 0, 100, &[], &[]);
    assert!(text(&crowd.stderr).contains("100 ranks share 64 CPUs"), "{}", text(&crowd.stderr));
    assert_eq!(line(&crowd, "set"), "OMP_NUM_THREADS=1");
    // What is set stays.
    let set = dry(host.path(), 0, 8, &[("OMP_NUM_THREADS", "3")], &[]);
    assert!(!text(&set.stdout).contains("OMP_NUM_THREADS"), "{}", text(&set.stdout));
}

#[test]
fn memory_is_strict_where_it_was_asked_for_or_cannot_run_out() {
    let host = host(&[]);
    let memory = |variables: Variables<'_>, args: &[&str]| {
        line(&dry(host.path(), 0, 4, variables, args), "memory")
    };
    assert!(memory(&[], &["--memory", "20G"]).starts_with("strict on "));
    assert!(memory(&[], &["--memory", "20G", "--mode", "preferred"]).starts_with("preferred on "));
    // The whole job's memory is free on the node.
    assert!(memory(&[("SLURM_MEM_PER_NODE", "32768")], &[]).starts_with("strict on "));
    // It is not: one rank could take more than its part.
    assert!(memory(&[("SLURM_MEM_PER_NODE", "102400")], &[]).starts_with("preferred on "));
    let refused = dry(host.path(), 0, 4, &[], &["--memory", "50G"]);
    let said = text(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(said.contains("does not fit beside the others"), "{said}");
    let forced = dry(host.path(), 0, 4, &[], &["--memory", "50G", "--force"]);
    assert_eq!(forced.status.code(), Some(0), "{}", text(&forced.stderr));
    let refused = dry(host.path(), 0, 8, &[], &["--cpus", "9"]);
    let said = text(&refused.stderr);
    assert!(said.contains("9 CPUs for each of 8 ranks do not fit: 64 CPUs may be used"), "{said}");
}

#[test]
fn what_ranks_do_not_have_is_refused() {
    let host = host(&[]);
    let outside = run(placer().args(["launch", "--ranks", "--dry-run", "--", "true"]));
    assert_eq!(outside.status.code(), Some(2));
    let said = text(&outside.stderr);
    assert!(said.contains("srun, mpirun or torchrun") && said.contains("SLURM_LOCALID"), "{said}");
    for flag in [&["--pin", "cores"][..], &["--cgroup", "own"], &["--json"], &["--explain"]] {
        let refused = dry(host.path(), 0, 2, &[], flag);
        let said = text(&refused.stderr);
        assert_eq!(refused.status.code(), Some(2), "{flag:?}");
        assert!(said.contains(&format!("omit {}", flag[0])), "{said}");
    }
    let gone = dry(host.path(), 0, 2, &[("CUDA_VISIBLE_DEVICES", "0,5")], &[]);
    let said = text(&gone.stderr);
    assert!(said.contains("CUDA_VISIBLE_DEVICES: the node of gpu0 is not known"), "{said}");
}

/// Ranks that start at once have their claims while they run, and leave nothing behind.
#[test]
fn ranks_of_this_host_are_claimed_and_leave_nothing() {
    let cpus = std::thread::available_parallelism().map_or(2, usize::from);
    let ranks = cpus.clamp(2, 8);
    let state = scratch();
    let gate = state.path().join("gate");
    let spawn = |at: usize| {
        let out = state.path().join(format!("rank{at}"));
        let said = format!(
            "echo $OMP_NUM_THREADS >{0}.part; grep Cpus_allowed_list /proc/self/status >>{0}.part; \
             mv {0}.part {0}; until [ -e {1} ]; do sleep 0.05; done",
            out.display(),
            gate.display()
        );
        let mut command = rank(at, ranks, &[("PATH", "/usr/bin:/bin")]);
        command.env("PLACER_STATE_DIR", state.path().join("placer"));
        command.args(["launch", "--ranks", "--", "sh", "-c", &said]);
        command.stderr(Stdio::null()).spawn().expect("started")
    };
    let mut children: Vec<_> = (0..ranks).map(spawn).collect();
    let pids: BTreeSet<u64> = children.iter().map(|child| u64::from(child.id())).collect();
    let all_there = || (0..ranks).all(|at| state.path().join(format!("rank{at}")).exists());
    for _ in 0..1200 {
        if all_there() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    assert!(all_there(), "all ranks run");
    // Guests of others that are found on this host are no claims of these.
    let owners = || -> BTreeSet<u64> {
        let mut command = placer();
        command.env("PLACER_STATE_DIR", state.path().join("placer"));
        let claims = json(&run(command.args(["ps", "--json"])));
        let claims = claims["claims"].as_array().expect("claims").iter();
        claims
            .filter(|claim| claim["origin"] == "asked")
            .filter_map(|claim| claim["pid"].as_u64())
            .collect()
    };
    assert_eq!(owners(), pids);
    let plans = || {
        let files = std::fs::read_dir(state.path().join("placer")).expect("a directory");
        let names = files.flatten().filter_map(|file| file.file_name().into_string().ok());
        names.filter(|name| name.starts_with("ranks-")).count()
    };
    assert_eq!(plans(), 0, "the last rank has removed the plan");
    // Where there are CPUs for all, no two ranks share one.
    let said = |at: usize| std::fs::read_to_string(state.path().join(format!("rank{at}")));
    let enough = cpus >= ranks;
    let found: Vec<BTreeSet<u32>> = (0..ranks)
        .map(|at| {
            let said = said(at).expect("read");
            ids(said.rsplit('\t').next().expect("a list").trim())
        })
        .collect();
    let different: BTreeSet<u32> = found.iter().flatten().copied().collect();
    let threads: Vec<usize> = (0..ranks)
        .map(|at| said(at).expect("read").lines().next().expect("a line").parse().expect("threads"))
        .collect();
    assert!(threads.iter().all(|&count| count >= 1 && count == threads[0]), "{threads:?}");
    if enough {
        assert_eq!(found.iter().map(BTreeSet::len).sum::<usize>(), different.len(), "{found:?}");
    }
    std::fs::write(&gate, "").expect("opened");
    for child in &mut children {
        assert!(child.wait().expect("waited for").success());
    }
    assert_eq!(owners(), BTreeSet::new());
}

/// A rank that is started again, or whose first rank has ended, decides alone beside the claims of the others.
#[test]
fn a_rank_that_is_started_again_decides_alone() {
    let state = scratch();
    let start = |at: usize, command: &str| {
        let mut rank = rank(at, 2, &[("PATH", "/usr/bin:/bin")]);
        rank.env("PLACER_STATE_DIR", state.path().join("placer"));
        run(rank.args(["launch", "--ranks", "--", "sh", "-c", command]))
    };
    let first = start(0, "exit 3");
    assert_eq!(first.status.code(), Some(3), "{}", text(&first.stderr));
    let again = start(0, "exit 4");
    assert_eq!(again.status.code(), Some(4));
    let said = text(&again.stderr);
    assert!(said.contains("this rank has been started before"), "{said}");
    // The claim that the first rank made for it has ended with the first rank.
    let second = start(1, "exit 5");
    assert_eq!((second.status.code(), text(&second.stderr).as_str()), (Some(5), ""));
}

/// Batch systems often start no login session: no directory to share a plan in.
#[test]
fn without_a_directory_ranks_share_no_cpu_all_the_same() {
    let nobody = |at: usize| {
        let mut rank = rank(at, 2, &[("PATH", "/usr/bin:/bin")]);
        // Nobody's place for state: a file is none.
        rank.env("PLACER_STATE_DIR", "/dev/null");
        rank.args([
            "launch",
            "--ranks",
            "--",
            "sh",
            "-c",
            "grep Cpus_allowed_list /proc/self/status",
        ]);
        run(&mut rank)
    };
    let found = [nobody(0), nobody(1)];
    let cpus: [BTreeSet<u32>; 2] = found.each_ref().map(|output| {
        let said = text(&output.stdout);
        ids(said.rsplit('\t').next().expect("a list").trim())
    });
    let said = text(&found[1].stderr);
    assert!(said.contains("neither CPUs nor memory are claimed"), "{said}");
    let enough = std::thread::available_parallelism().is_ok_and(|cpus| cpus.get() > 1);
    assert!(!enough || cpus[0].is_disjoint(&cpus[1]), "{cpus:?}");
}

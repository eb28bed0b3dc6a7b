//! Which rank of which step a process is, by the variables of the program that started it.

use std::fs::File;

use placer_engine::claims::{ProcessId, Processes};
use placer_engine::fnv64;
use placer_launcher::definition::read_at_most;

/// More ranks than any host has CPUs.
const MOST_RANKS: usize = 4096;
/// An environment that is larger has been filled on purpose.
const LARGEST_ENVIRONMENT: usize = 8 << 20;
/// Programs between a rank and the one that started all ranks: scripts, container runtimes.
const MOST_BETWEEN: usize = 64;

/// Where a starter of ranks says how many there are on this host.
enum Count {
    Is(&'static str),
    /// Slurm's `4(x2),3`: tasks of each host of the step, in the order of SLURM_NODEID.
    OfHosts(&'static [&'static str]),
}

struct Kind {
    name: &'static str,
    rank: &'static str,
    count: Count,
    /// What tells steps of one starter apart.
    step: &'static [&'static str],
}

/// The inner ones first: `mpirun` and `torchrun` hand on Slurm's variables.
const KINDS: [Kind; 6] = [
    Kind {
        name: "the caller",
        rank: "PLACER_LOCAL_RANK",
        count: Count::Is("PLACER_LOCAL_SIZE"),
        step: &[],
    },
    Kind {
        name: "torchrun",
        rank: "LOCAL_RANK",
        count: Count::Is("LOCAL_WORLD_SIZE"),
        step: &["TORCHELASTIC_RESTART_COUNT"],
    },
    Kind {
        name: "Open MPI",
        rank: "OMPI_COMM_WORLD_LOCAL_RANK",
        count: Count::Is("OMPI_COMM_WORLD_LOCAL_SIZE"),
        step: &["PMIX_NAMESPACE"],
    },
    Kind { name: "MPICH", rank: "MPI_LOCALRANKID", count: Count::Is("MPI_LOCALNRANKS"), step: &[] },
    Kind {
        name: "MVAPICH",
        rank: "MV2_COMM_WORLD_LOCAL_RANK",
        count: Count::Is("MV2_COMM_WORLD_LOCAL_SIZE"),
        step: &[],
    },
    Kind {
        name: "Slurm",
        rank: "SLURM_LOCALID",
        count: Count::OfHosts(&["SLURM_STEP_TASKS_PER_NODE", "SLURM_TASKS_PER_NODE"]),
        step: &["SLURM_JOB_ID", "SLURM_STEP_ID"],
    },
];

/// One of the processes of a step on this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rank {
    /// From 0.
    pub local: usize,
    /// How many ranks of the step are on this host.
    pub count: usize,
    /// The program that started them, as people call it.
    pub by: &'static str,
    /// A name for the step, the same in all its ranks: letters and digits.
    pub step: String,
    pub starter: Option<Starter>,
}

/// The process that started all ranks of a step, which ends with the step or after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Starter {
    pub process: ProcessId,
    /// Its pid as this process sees it.
    pub pid: u32,
}

impl Rank {
    /// Finds out which rank this process is. `variable` is its environment, `parent` its parent.
    ///
    /// Source: variables of Slurm, Open MPI, MPICH, MVAPICH and torchrun; `/proc/PID/environ` of its ancestors.
    /// Errors: no variable says so, or one cannot be understood.
    pub fn find(
        variable: &dyn Fn(&str) -> Option<String>,
        look: &mut Processes,
        parent: u32,
    ) -> Result<Self, String> {
        let complete = |kind: &&Kind| kind.is_complete(variable);
        let whole = KINDS.iter().find(complete);
        // One that says half of it is named where no other says all.
        let kind = whole.or_else(|| KINDS.iter().find(|kind| variable(kind.rank).is_some()));
        let Some((kind, text)) = kind.and_then(|kind| Some((kind, variable(kind.rank)?))) else {
            let known: Vec<&str> = KINDS[1..].iter().map(|kind| kind.rank).collect();
            return Err(format!(
                "--ranks is for commands that srun, mpirun or torchrun starts: none of {} is set; \
                 set {} and PLACER_LOCAL_SIZE in other cases",
                known.join(", "),
                KINDS[0].rank
            ));
        };
        let local = number(kind.rank, &text)?;
        let count = kind.count.read(variable).map_err(|why| format!("{}: {why}", kind.name))?;
        if count == 0 || count > MOST_RANKS || local >= count {
            return Err(format!(
                "{}: rank {local} of {count} on this host: expected a rank below the number of ranks, \
                 and at most {MOST_RANKS}",
                kind.name
            ));
        }
        let starter = starter(look, parent, &format!("{}={text}", kind.rank));
        let ids: Vec<String> = kind.step.iter().filter_map(|name| variable(name)).collect();
        // Where no number of the step is known, the process that started it is one.
        let named = kind.step.len() == ids.len() && !ids.is_empty() && kind.name != "torchrun";
        let by = if named { None } else { starter.map(|starter| starter.process) };
        let key = format!("{} {} {ids:?} {by:?} {count}", look.boot(), kind.name);
        let step = format!("{:016x}", fnv64(key.bytes()));
        Ok(Self { local, count, by: kind.name, step, starter })
    }
}

impl Kind {
    /// Returns whether rank and number of ranks are set. A batch script of Slurm's has both and is no rank.
    fn is_complete(&self, variable: &dyn Fn(&str) -> Option<String>) -> bool {
        let count = match &self.count {
            Count::Is(name) => variable(name).is_some(),
            Count::OfHosts(names) => {
                names.iter().any(|name| variable(name).is_some())
                    && variable("SLURM_STEP_ID").is_some()
            }
        };
        count && variable(self.rank).is_some()
    }
}

impl Count {
    fn read(&self, variable: &dyn Fn(&str) -> Option<String>) -> Result<usize, String> {
        match self {
            Self::Is(name) => {
                number(name, &variable(name).ok_or_else(|| format!("{name} is not set"))?)
            }
            Self::OfHosts(names) => {
                if variable("SLURM_STEP_ID").is_none() {
                    return Err("this is a batch script: start the ranks with srun".to_owned());
                }
                let found = names.iter().find_map(|name| Some((*name, variable(name)?)));
                let (name, text) = found.ok_or_else(|| format!("{} is not set", names[0]))?;
                let host = variable("SLURM_NODEID").unwrap_or_else(|| "0".to_owned());
                let host = number("SLURM_NODEID", &host)?;
                tasks_of(&text, host).ok_or_else(|| {
                    format!("{name}: expected tasks of each host such as 4(x2),3, found {text:?}")
                })
            }
        }
    }
}

fn number(name: &str, text: &str) -> Result<usize, String> {
    text.parse().map_err(|_| format!("{name}: expected a number, found {text:?}"))
}

/// Returns the tasks of one host of `4(x2),3`.
fn tasks_of(text: &str, host: usize) -> Option<usize> {
    let mut first = 0_usize;
    for part in text.split(',') {
        let (tasks, hosts) = match part.split_once("(x") {
            Some((tasks, hosts)) => (tasks, hosts.strip_suffix(')')?.parse().ok()?),
            None => (part, 1),
        };
        let tasks = tasks.parse().ok()?;
        first = first.checked_add(hosts)?;
        if host < first {
            return Some(tasks);
        }
    }
    None
}

/// Returns the nearest ancestor that is not itself in the rank: it lacks the variable that names the rank, or does
/// not show its environment, as a daemon of root's does not.
fn starter(look: &mut Processes, parent: u32, mark: &str) -> Option<Starter> {
    let mut pid = parent;
    for _ in 0..MOST_BETWEEN {
        let above = look.standing(pid)?.parent;
        if above == 0 || !has(pid, mark) {
            break;
        }
        pid = above;
    }
    Some(Starter { process: look.identify(pid)?, pid })
}

/// Returns whether a process was started with a variable.
fn has(pid: u32, mark: &str) -> bool {
    let Ok(file) = File::open(format!("/proc/{pid}/environ")) else { return false };
    let text = read_at_most(file, LARGEST_ENVIRONMENT).unwrap_or_default();
    text.split(|&byte| byte == 0).any(|variable| variable == mark.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(set: &[(&str, &str)]) -> Result<Rank, String> {
        let mut look = Processes::look().expect("/proc");
        let variable = |name: &str| {
            let found = set.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        Rank::find(&variable, &mut look, std::process::id())
    }

    fn rank(set: &[(&str, &str)]) -> (usize, usize, &'static str) {
        let rank = find(set).expect("a rank");
        (rank.local, rank.count, rank.by)
    }

    #[test]
    fn each_starter_says_it_in_its_way() {
        let ompi = [("OMPI_COMM_WORLD_LOCAL_RANK", "3"), ("OMPI_COMM_WORLD_LOCAL_SIZE", "8")];
        assert_eq!(rank(&ompi), (3, 8, "Open MPI"));
        let hydra = [("MPI_LOCALRANKID", "0"), ("MPI_LOCALNRANKS", "2")];
        assert_eq!(rank(&hydra), (0, 2, "MPICH"));
        let torch = [("LOCAL_RANK", "1"), ("LOCAL_WORLD_SIZE", "4")];
        assert_eq!(rank(&torch), (1, 4, "torchrun"));
        let slurm = [
            ("SLURM_LOCALID", "2"),
            ("SLURM_STEP_ID", "0"),
            ("SLURM_NODEID", "1"),
            ("SLURM_STEP_TASKS_PER_NODE", "4(x2),3"),
            ("SLURM_TASKS_PER_NODE", "8"),
        ];
        assert_eq!(rank(&slurm), (2, 4, "Slurm"));
        // A habit of PyTorch users.
        assert_eq!(rank(&[&slurm[..], &[("LOCAL_RANK", "2")]].concat()).2, "Slurm");
        // mpirun in a job of Slurm's.
        assert_eq!(rank(&[&slurm[..], &ompi].concat()).2, "Open MPI");
    }

    #[test]
    fn tasks_are_those_of_this_host() {
        let all = |text| (0..5).map(|host| tasks_of(text, host)).collect::<Vec<_>>();
        assert_eq!(all("4(x2),3"), [Some(4), Some(4), Some(3), None, None]);
        assert_eq!(all("7"), [Some(7), None, None, None, None]);
        for wrong in ["", "x", "4(x", "4(x)", "4(x2", "-1", "4,,", "4(x99999999999999999999)"] {
            assert_eq!(tasks_of(wrong, 3), None, "{wrong:?}");
        }
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for (set, said) in [
            (vec![], "--ranks is for commands that srun, mpirun or torchrun starts"),
            (vec![("MPI_LOCALRANKID", "1")], "MPICH: MPI_LOCALNRANKS is not set"),
            (
                vec![("MPI_LOCALRANKID", "x"), ("MPI_LOCALNRANKS", "2")],
                "expected a number, found \"x\"",
            ),
            (vec![("MPI_LOCALRANKID", "2"), ("MPI_LOCALNRANKS", "2")], "rank 2 of 2"),
            (vec![("LOCAL_RANK", "0"), ("LOCAL_WORLD_SIZE", "9999")], "at most 4096"),
            (
                vec![
                    ("SLURM_LOCALID", "0"),
                    ("SLURM_STEP_ID", "0"),
                    ("SLURM_TASKS_PER_NODE", "no"),
                ],
                "4(x2),3, found \"no\"",
            ),
            (
                vec![("SLURM_LOCALID", "0"), ("SLURM_TASKS_PER_NODE", "8")],
                "start the ranks with srun",
            ),
        ] {
            let why = find(&set).err().unwrap_or_default();
            assert!(why.contains(said), "{set:?}: {why}");
        }
    }

    #[test]
    fn steps_differ_by_job_and_restart_and_size() {
        let step = |set: &[(&str, &str)]| find(set).expect("a rank").step;
        let slurm = |job: &'static str, step: &'static str| {
            [
                ("SLURM_LOCALID", "0"),
                ("SLURM_TASKS_PER_NODE", "2"),
                ("SLURM_JOB_ID", job),
                ("SLURM_STEP_ID", step),
            ]
        };
        assert_eq!(step(&slurm("7", "0")), step(&slurm("7", "0")));
        assert_ne!(step(&slurm("7", "0")), step(&slurm("7", "1")));
        assert_ne!(step(&slurm("7", "0")), step(&slurm("8", "0")));
        let torch = |restart: &'static str| {
            [
                ("LOCAL_RANK", "0"),
                ("LOCAL_WORLD_SIZE", "2"),
                ("TORCHELASTIC_RESTART_COUNT", restart),
            ]
        };
        assert_ne!(step(&torch("0")), step(&torch("1")));
    }
}

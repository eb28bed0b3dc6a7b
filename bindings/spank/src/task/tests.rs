//! A task of a Slurm that is made up, on this host.

#![allow(clippy::panic, reason = "a test may stop where it stands")]

use std::cell::RefCell;

use super::*;
use needs::needs;

struct Made {
    step: u64,
    tasks: u64,
    memory: u64,
    said: RefCell<Vec<String>>,
    set: RefCell<Vec<(String, String)>>,
}

impl Made {
    fn new(tasks: u64, memory: u64) -> Self {
        Self { step: 0, tasks, memory, said: RefCell::default(), set: RefCell::default() }
    }
}

impl Slurm for Made {
    fn number(&self, item: Item) -> Option<u64> {
        Some(match item {
            Item::LocalTasks => self.tasks,
            Item::LocalTask => 0,
            Item::Step => self.step,
            Item::CpusPerTask => 1,
            Item::StepMemory => self.memory,
        })
    }

    fn variable(&self, _: &str) -> Option<String> {
        None
    }

    fn set_variable(&self, name: &str, value: &str) {
        self.set.borrow_mut().push((name.to_owned(), value.to_owned()));
    }

    fn say(&self, text: &str) {
        self.said.borrow_mut().push(text.to_owned());
    }
}

#[test]
fn an_argument_is_a_request_and_none_is_what_slurm_gives() {
    assert_eq!(Asked::parse(None), Ok(Asked::default()));
    assert_eq!(Asked::parse(Some("")), Ok(Asked::default()));
    let asked = Asked::parse(Some("4:8G")).expect("a request");
    assert_eq!((asked.cpus, asked.memory), (CpuShare::from_cpus(4), Bytes::from_gib(8)));
    assert_eq!(Asked::parse(Some("4")).expect("a request").memory, None);
    for wrong in ["4:8X", "x", ":", "4:8G:1"] {
        assert!(Asked::parse(Some(wrong)).is_err(), "{wrong:?}");
    }
    assert_eq!((asked.status(), Asked::by_host().status()), (-1, 0));
}

#[needs(root)]
#[test]
fn a_task_has_a_cpu_that_it_may_use_and_is_bound_to_it() {
    // Before this process owns CPUs.
    assert!(choose(&Made::new(4096, 64), &Asked::by_host()).is_ok());
    let made = Made::new(1, 64);
    let chosen = choose(&made, &Asked::default()).expect("it fits").expect("a place");
    let own = sys::affinity(0).expect("CPUs");
    assert!(!chosen.cpus.is_empty() && chosen.cpus.is_subset(&own), "{chosen:?} of {own}");
    let set = made.set.borrow();
    let [(name, threads)] = &set[..] else { panic!("one variable: {set:?}") };
    assert_eq!(name, "OMP_NUM_THREADS");
    assert!(
        threads.parse::<u64>().is_ok_and(|count| count >= 1 && count <= own.len()),
        "{threads}"
    );
    let bound = std::thread::spawn(move || {
        chosen.bind()?;
        Ok::<bool, String>(sys::affinity(0) == Ok(chosen.cpus))
    });
    assert_eq!(bound.join().expect("no panic"), Ok(true));
}

#[test]
fn what_does_not_fit_is_said_unless_the_host_asks() {
    let asked = |text| Asked::parse(Some(text)).expect("a request");
    let why = |made: &Made, text| choose(made, &asked(text)).err().unwrap_or_default();
    let large = Made::new(1, 1 << 30);
    assert!(why(&large, "1:4000000G").contains("fit"), "{}", why(&large, "1:4000000G"));
    // Nobody claims more in the host's ledger than Slurm gives the job.
    let said = why(&Made::new(4, 1000), "1:300M");
    assert!(
        said.contains("300.0 MiB for each of 4 tasks do not fit in the step's memory"),
        "{said}"
    );
    assert!(why(&Made::new(1, 0), "1:300M").contains("--mem"));
}

#[test]
fn a_batch_script_is_no_task() {
    let script = Made { step: 0xffff_fffb, ..Made::new(1, 64) };
    assert!(matches!(choose(&script, &Asked::default()), Ok(None)));
    assert!(script.set.borrow().is_empty());
}

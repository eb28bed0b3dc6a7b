//! A task of a Slurm that is made up, on this host.

use std::cell::RefCell;

use super::*;

struct Made {
    tasks: u64,
    memory: u64,
    said: RefCell<Vec<String>>,
    set: RefCell<Vec<(String, String)>>,
}

impl Made {
    fn new(tasks: u64, memory: u64) -> Self {
        Self { tasks, memory, said: RefCell::default(), set: RefCell::default() }
    }
}

impl Slurm for Made {
    fn number(&self, item: Item) -> Option<u64> {
        Some(match item {
            Item::LocalTasks => self.tasks,
            Item::LocalTask => 0,
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

#[test]
fn a_task_has_a_cpu_that_it_may_use_and_is_bound_to_it() {
    let made = Made::new(1, 64);
    let chosen = choose(&made, &Asked::default()).expect("it fits").expect("a place");
    let own = sys::affinity(0).expect("CPUs");
    assert!(!chosen.cpus.is_empty() && chosen.cpus.is_subset(&own), "{chosen:?} of {own}");
    assert_eq!(*made.set.borrow(), [("OMP_NUM_THREADS".to_owned(), "1".to_owned())]);
    let bound = std::thread::spawn(move || {
        chosen.bind()?;
        Ok::<bool, String>(sys::affinity(0) == Ok(chosen.cpus))
    });
    assert_eq!(bound.join().expect("no panic"), Ok(true));
}

#[test]
fn what_does_not_fit_is_said_unless_the_host_asks() {
    let most = Asked::parse(Some("1:4000000G")).expect("a request");
    let why = choose(&Made::new(1, 64), &most).err().unwrap_or_default();
    assert!(why.contains("does not fit"), "{why}");
    let crowd = Made::new(4096, 64);
    assert!(choose(&crowd, &Asked::by_host()).is_ok());
}

//! The choice against the recorded answers and against trying every set.

#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    clippy::panic,
    reason = "small made-up hosts"
)]

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::roam::{Offer, Rules};
use super::{Core, Proof, Thread, free_capacity, pin, roam};

const EFFORT: u64 = 1_000_000;

/// One question, in the form of `tests/golden/caches.txt`.
#[derive(Clone, Debug)]
struct Question {
    caches: Vec<Vec<Core>>,
    cpus: f64,
    pack: bool,
}

impl Question {
    fn offers(&self) -> Vec<Offer> {
        self.caches.iter().map(|cores| offer(cores)).collect()
    }

    fn rules(&self) -> Rules {
        Rules { cpus: self.cpus, penalty_percent: 20, pack: self.pack, effort: EFFORT }
    }
}

fn offer(cores: &[Core]) -> Offer {
    let mut offer = Offer { cpus: 0, capacity: 0.0, idle: 0.0 };
    for core in cores {
        let free: Vec<&Thread> = core.threads.iter().filter(|thread| !thread.taken).collect();
        let busy = free.iter().map(|thread| 1.0 - thread.idle).sum();
        let owned = free.len() < core.threads.len();
        let (capacity, idle) = free_capacity(free.len() as u32, busy, owned, 0.2);
        offer.cpus += free.len() as u32;
        offer.capacity += capacity;
        offer.idle += idle;
    }
    offer
}

fn parse_core(text: &str) -> Core {
    let thread = |text: &str| {
        let (text, taken) = text.strip_suffix('!').map_or((text, false), |text| (text, true));
        let (cpu, percent) = text.split_once('=').expect("CPU=percent");
        let idle = percent.parse::<f64>().expect("a number") / 100.0;
        Thread { cpu: cpu.parse().expect("a CPU"), idle, taken }
    };
    Core { threads: text.split(',').map(thread).collect() }
}

fn list(items: impl IntoIterator<Item = impl ToString>) -> String {
    items.into_iter().map(|item| item.to_string()).collect::<Vec<_>>().join(",")
}

#[test]
fn every_golden_row_is_answered_alike() {
    let rows = include_str!("../../../tests/golden/caches.txt");
    let rows: Vec<&str> = rows.lines().filter(|row| !row.starts_with('#')).collect();
    assert_eq!(rows.len(), 400);
    for row in rows {
        let parts: Vec<&str> = row.split(" | ").collect();
        let [pin, cpus, prefer, caches, answer] = parts[..] else { panic!("five parts in {row}") };
        let question = Question {
            caches: caches
                .split(" / ")
                .map(|cores| cores.split_whitespace().map(parse_core).collect())
                .collect(),
            cpus: cpus.parse().expect("a number"),
            pack: prefer == "pack",
        };
        let got = if pin == "cores" {
            let vcpus = question.cpus.ceil() as usize;
            pin::choose(&question.caches, vcpus, EFFORT).map_or("none".to_owned(), |choice| {
                assert_eq!(choice.proof, Proof::Optimal);
                let pin::Choice { caches, cpus, sharing, busy, .. } = choice;
                format!("{} {} {sharing} {busy}", list(caches), list(cpus))
            })
        } else {
            // Where claims own every CPU the caller asks again as if none did.
            let all_taken = question.offers().iter().all(|offer| offer.cpus == 0);
            let mut question = question.clone();
            if all_taken {
                let cores = question.caches.iter_mut().flatten();
                cores.flat_map(|core| &mut core.threads).for_each(|thread| thread.taken = false);
            }
            let choice = roam::choose(&question.offers(), &question.rules());
            assert_eq!(choice.proof, Proof::Optimal, "{row}");
            let threads = |at: &usize| question.caches[*at].iter().flat_map(|core| &core.threads);
            let free = choice.caches.iter().flat_map(threads).filter(|thread| !thread.taken);
            let mut cpus: Vec<u32> = free.map(|thread| thread.cpu).collect();
            cpus.sort_unstable();
            let cost = f64::from(u32::try_from(choice.cost_ppm).expect("small")) / 1e6;
            // The recorded costs have a fraction always, as in 1.0.
            format!("{} {cost:?} {}", list(&choice.caches), list(cpus))
        };
        assert_eq!(got, answer, "{row}");
    }
}

/// The rule for roaming guests as it stands in the design, over every set of caches.
fn roam_by_brute_force(offers: &[Offer], rules: &Rules) -> (Vec<usize>, u64) {
    let have: Vec<usize> = (0..offers.len()).filter(|&at| offers[at].cpus > 0).collect();
    let cpus = rules.cpus.max(0.01);
    let need = cpus.min(have.iter().map(|&at| f64::from(offers[at].cpus)).sum());
    let mut found: Vec<(u64, usize, i64, Vec<usize>)> = Vec::new();
    for mask in 1u32..1 << have.len() {
        let set: Vec<usize> = have
            .iter()
            .enumerate()
            .filter(|(bit, _)| mask >> bit & 1 == 1)
            .map(|(_, &at)| at)
            .collect();
        let sum =
            |of: fn(&Offer) -> f64| set.iter().map(|&at| of(&offers[at])).fold(0.0, |a, b| a + b);
        if sum(|offer| f64::from(offer.cpus)) < need {
            continue;
        }
        let (idle, capacity) = (sum(|offer| offer.idle), sum(|offer| offer.capacity));
        let contention = 1.0 + (cpus - idle).max(0.0) / capacity;
        let shares: Vec<f64> = set
            .iter()
            .map(|&at| offers[at].idle + (contention - 1.0) * offers[at].capacity)
            .collect();
        let total = shares.iter().fold(0.0, |a, b| a + b);
        let total = if total > 0.0 { total } else { 1.0 };
        let same = shares.iter().map(|share| (share / total).powi(2)).fold(0.0, |a, b| a + b);
        let cost = contention * (1.0 + 0.01 * f64::from(rules.penalty_percent) * (1.0 - same));
        let idle = if rules.pack { idle } else { -idle };
        let millionths = |figure: f64| (figure * 1e6).round_ties_even();
        found.push((millionths(cost) as u64, set.len(), millionths(idle) as i64, set));
    }
    let lowest = found.iter().map(|set| set.0).min().expect("all caches together qualify");
    found.retain(|set| set.0 as f64 <= lowest as f64 * 1.02);
    let best = found.into_iter().min_by(|a, b| (a.1, a.2, &a.3).cmp(&(b.1, b.2, &b.3)));
    let (cost, _, _, set) = best.expect("the lowest one qualifies");
    (set, cost)
}

/// The rule for pinned guests over every set of caches.
fn pin_by_brute_force(caches: &[Vec<Core>], vcpus: usize) -> Option<(Vec<usize>, Vec<u32>)> {
    let quarters = |core: &Core| {
        let free = core.threads.iter().filter(|thread| !thread.taken);
        free.map(|thread| 4 - (thread.idle * 4.0 + 1e-9) as usize).max().unwrap_or(4)
    };
    let untouched = |core: &&Core| core.threads.iter().all(|thread| !thread.taken);
    let whole = |cores: &[Core]| cores.iter().all(|core| untouched(&core) && quarters(core) < 2);
    let mut best: Option<(Vec<usize>, Vec<usize>)> = None;
    for mask in 1u32..1 << caches.len() {
        let set: Vec<usize> = (0..caches.len()).filter(|at| mask >> at & 1 == 1).collect();
        let (mut first, mut further) = (Vec::new(), Vec::new());
        for &at in &set {
            for core in &caches[at] {
                let free = core.threads.iter().filter(|thread| !thread.taken);
                let mut ids: Vec<u32> = free.map(|thread| thread.cpu).collect();
                ids.sort_unstable();
                let load = quarters(core);
                for (nth, id) in ids.into_iter().enumerate() {
                    let pool = if untouched(&core) && nth == 0 { &mut first } else { &mut further };
                    pool.push((load >= 2, load, id, at));
                }
            }
        }
        first.sort_unstable();
        further.sort_unstable();
        let firsts = first.len();
        let picks: Vec<_> = first.into_iter().chain(further).take(vcpus).collect();
        let used = |at: &usize| picks.iter().any(|pick| pick.3 == *at);
        if picks.len() < vcpus || !set.iter().all(used) {
            continue;
        }
        let free = |at: &usize| caches[*at].iter().filter(untouched).count();
        let mut key = vec![
            vcpus.saturating_sub(firsts),
            picks.iter().filter(|pick| pick.0).count(),
            set.len(),
            set.iter().filter(|&&at| whole(&caches[at])).count(),
            set.iter().map(free).sum::<usize>() - vcpus.min(firsts),
            picks.iter().map(|pick| pick.1).sum(),
        ];
        key.extend(picks.iter().map(|pick| pick.2 as usize));
        if best.as_ref().is_none_or(|(lowest, at)| (&key, &set) < (lowest, at)) {
            best = Some((key, set));
        }
    }
    best.map(|(key, set)| (set, key[6..].iter().map(|&cpu| cpu as u32).collect()))
}

/// Hosts of up to `most` caches of up to 8 cores with 1, 2 or 4 threads; some CPUs are taken, and CPU
/// numbers run through the caches in different ways.
fn questions(most: usize) -> impl Strategy<Value = Question> {
    let shape = (1..=most, 1usize..=8, prop_oneof![Just(1usize), Just(2), Just(4)], 0u8..4, 0u8..4);
    let noise = proptest::collection::vec((0u8..=100, 0u8..=100, any::<bool>()), most * 8 * 4);
    (shape, noise, 0.0f64..1.2, any::<bool>(), any::<bool>()).prop_map(
        |((count, per, threads, full, busy), noise, part, pack, interleaved)| {
            let mut noise = noise.into_iter().cycle();
            let total = count * per;
            let mut caches = Vec::new();
            for cache in 0..count {
                let mut cores = Vec::new();
                for core in 0..per {
                    let place = if interleaved { core * count + cache } else { cache * per + core };
                    let mut all = Vec::new();
                    for nth in 0..threads {
                        let (idle, taken, flat) = noise.next().expect("endless");
                        // Levels of load: none, a little, anything; whole percents, so that sums tie.
                        let idle = match busy {
                            0 => 100,
                            1 => 100 - idle % 3,
                            2 if flat => 100,
                            _ => idle,
                        };
                        let taken = taken < [0, 10, 40, 80][usize::from(full)];
                        let cpu = u32::try_from(place + nth * total).expect("few CPUs");
                        all.push(Thread { cpu, idle: f64::from(idle) / 100.0, taken });
                    }
                    cores.push(Core { threads: all });
                }
                caches.push(cores);
            }
            let most = (total * threads) as f64;
            let cpus = (part * most).max(0.1);
            let cpus = if pack { cpus } else { cpus.ceil() };
            Question { caches, cpus, pack }
        },
    )
}

/// Questions tried against every set; `PLACER_CACHE_QUESTIONS` changes how many.
fn cases(default: u32) -> Config {
    let asked = std::env::var("PLACER_CACHE_QUESTIONS").ok().and_then(|text| text.parse().ok());
    let cases = asked.unwrap_or(default);
    Config { cases, failure_persistence: None, ..Config::default() }
}

#[test]
fn roaming_guests_get_what_trying_every_set_finds() {
    let mut runner = TestRunner::new_with_rng(
        cases(10_000),
        proptest::test_runner::TestRng::deterministic_rng(
            proptest::test_runner::RngAlgorithm::ChaCha,
        ),
    );
    let run = |question: Question| {
        let (offers, rules) = (question.offers(), question.rules());
        if offers.iter().all(|offer| offer.cpus == 0) {
            prop_assert!(roam::choose(&offers, &rules).caches.is_empty());
            return Ok(());
        }
        let choice = roam::choose(&offers, &rules);
        prop_assert_eq!(choice.proof, Proof::Optimal);
        prop_assert_eq!((choice.caches, choice.cost_ppm), roam_by_brute_force(&offers, &rules));
        Ok(())
    };
    runner.run(&questions(10), run).expect("equal to brute force");
}

#[test]
fn pinned_guests_get_what_trying_every_set_finds() {
    let mut runner = TestRunner::new_with_rng(
        cases(10_000),
        proptest::test_runner::TestRng::deterministic_rng(
            proptest::test_runner::RngAlgorithm::ChaCha,
        ),
    );
    let run = |question: Question| {
        let vcpus = question.cpus.ceil() as usize;
        let choice = pin::choose(&question.caches, vcpus, EFFORT);
        if let Some(choice) = &choice {
            prop_assert_eq!(choice.proof, Proof::Optimal);
        }
        let found = choice.map(|choice| (choice.caches, choice.cpus));
        prop_assert_eq!(found, pin_by_brute_force(&question.caches, vcpus));
        Ok(())
    };
    runner.run(&questions(10), run).expect("equal to brute force");
}

/// The lowest cost, and the best set within 2 % of it, over every way to take so many caches of each kind.
/// Only for hosts of few kinds; independent of the search in that it cuts nothing.
fn roam_by_counts(kinds: &[(Offer, usize)], rules: &Rules) -> (u64, usize, i64) {
    let mut counts = vec![0usize; kinds.len()];
    let mut found: Vec<(u64, usize, i64)> = Vec::new();
    let all: f64 = kinds.iter().map(|(offer, there)| f64::from(offer.cpus) * *there as f64).sum();
    while let Some(at) = (0..kinds.len()).find(|&at| counts[at] < kinds[at].1) {
        counts[..at].fill(0);
        counts[at] += 1;
        let each = || kinds.iter().zip(&counts).map(|((offer, _), &many)| (offer, many as f64));
        let cpus: f64 = each().map(|(offer, many)| f64::from(offer.cpus) * many).sum();
        if cpus < rules.cpus.min(all) {
            continue;
        }
        let idle: f64 = each().map(|(offer, many)| offer.idle * many).sum();
        let capacity: f64 = each().map(|(offer, many)| offer.capacity * many).sum();
        let contention = 1.0 + (rules.cpus - idle).max(0.0) / capacity;
        let total = idle.max(rules.cpus);
        let share = |offer: &Offer| (offer.idle + (contention - 1.0) * offer.capacity) / total;
        let same: f64 = each().map(|(offer, many)| share(offer).powi(2) * many).sum();
        let cost = contention * (1.0 + 0.01 * f64::from(rules.penalty_percent) * (1.0 - same));
        let key = if rules.pack { idle } else { -idle };
        let millionths = |figure: f64| (figure * 1e6).round_ties_even();
        found.push((millionths(cost) as u64, counts.iter().sum(), millionths(key) as i64));
    }
    let lowest = found.iter().map(|set| set.0).min().expect("all caches qualify");
    found.retain(|set| set.0 as f64 <= lowest as f64 * 1.02);
    found.into_iter().min_by_key(|&(_, size, key)| (size, key)).expect("the lowest one")
}

#[test]
fn up_to_64_caches_an_answer_is_exact_or_its_gap_is_true() {
    let kind = (1u32..=16, 0u32..=100, 1usize..=32);
    let hosts = (proptest::collection::vec(kind, 1..=3), 1u32..=400, any::<bool>());
    let mut runner = TestRunner::new_with_rng(
        Config { cases: 500, failure_persistence: None, ..Config::default() },
        proptest::test_runner::TestRng::deterministic_rng(
            proptest::test_runner::RngAlgorithm::ChaCha,
        ),
    );
    let exact = std::cell::Cell::new(0);
    let run = |(kinds, cpus, pack): (Vec<(u32, u32, usize)>, u32, bool)| {
        let mut left = 64;
        let mut all: Vec<(Offer, usize)> = Vec::new();
        for (cpus, idle, there) in kinds {
            let capacity = f64::from(cpus);
            let offer = Offer { cpus, capacity, idle: capacity * f64::from(idle) / 100.0 };
            let there = there.min(left);
            left -= there;
            all.push((offer, there));
        }
        let offers: Vec<Offer> =
            all.iter().flat_map(|&(offer, there)| std::iter::repeat_n(offer, there)).collect();
        let rules = Rules { cpus: f64::from(cpus), penalty_percent: 20, pack, effort: 20_000 };
        let choice = roam::choose(&offers, &rules);
        let (cost, size, key) = roam_by_counts(&all, &rules);
        let idle: f64 = choice.caches.iter().map(|&at| offers[at].idle).sum();
        match choice.proof {
            Proof::Optimal => {
                exact.set(exact.get() + 1);
                prop_assert_eq!(choice.caches.len(), size);
                let got = if pack { idle } else { -idle } * 1e6;
                // Sums in another order differ in the last digit.
                prop_assert!((got - key as f64).abs() <= 2.0, "{} for {}", got, key);
                prop_assert!(choice.cost_ppm.abs_diff(cost) <= 1);
            }
            Proof::Gap(gap) => {
                let most = cost as f64 * (1.0 + gap as f64 / 1e6) * 1.02;
                prop_assert!(choice.cost_ppm as f64 <= most + 1.0);
            }
        }
        Ok(())
    };
    runner.run(&hosts, run).expect("exact, or a true gap");
    assert!(exact.get() >= 490, "{} of 500 exact", exact.get());
}

#[test]
fn many_unequal_caches_are_answered_within_the_step_limit() {
    // Every cache differs: nothing is grouped, and the bounds alone must cut.
    let offers: Vec<Offer> = (0..64u32)
        .map(|n| Offer { cpus: 8, capacity: 8.0, idle: 8.0 - f64::from(n * 37 % 64) / 500.0 })
        .collect();
    for cpus in [1.0, 8.0, 9.0, 16.0, 30.0, 100.0, 500.0, 1_000.0] {
        let rules = Rules { cpus, penalty_percent: 20, pack: false, effort: 20_000 };
        let choice = roam::choose(&offers, &rules);
        let cpus_of_set = 8 * choice.caches.len();
        assert!(cpus_of_set as f64 >= cpus.min(512.0), "{cpus}: {choice:?}");
    }
    let core = |cpu| Core { threads: vec![Thread { cpu, idle: 1.0, taken: false }] };
    let caches: Vec<Vec<Core>> =
        (0..64).map(|n| (0..8).map(|c| core(n * 8 + c)).collect()).collect();
    for vcpus in [1, 8, 9, 64, 100, 511, 512] {
        let choice = pin::choose(&caches, vcpus, 20_000).expect("512 CPUs");
        assert_eq!((choice.cpus.len(), choice.proof), (vcpus, Proof::Optimal));
        assert_eq!(choice.caches.len(), vcpus.div_ceil(8));
    }
    assert!(pin::choose(&caches, 513, 20_000).is_none());
}

/// Hosts of unequal, more or less busy caches.
fn unequal(count: usize) -> impl Strategy<Value = (Vec<Offer>, f64, bool)> {
    let idle = proptest::collection::vec(0.0f64..=1.0, count);
    (idle, 0.0f64..=1.0, 1u32..=16, any::<bool>()).prop_map(|(idle, busy, cpus, pack)| {
        let offer = |idle: f64| {
            let idle = 8.0 * (1.0 - busy * (1.0 - idle));
            Offer { cpus: 8, capacity: 8.0, idle: (idle * 1e6).round() / 1e6 }
        };
        (idle.into_iter().map(offer).collect(), f64::from(cpus), pack)
    })
}

#[test]
fn where_not_all_sets_are_tried_a_guest_still_gets_one_cache_if_one_holds_it() {
    let mut runner = TestRunner::new_with_rng(
        Config { cases: 300, failure_persistence: None, ..Config::default() },
        proptest::test_runner::TestRng::deterministic_rng(
            proptest::test_runner::RngAlgorithm::ChaCha,
        ),
    );
    let (limited, alone) = (std::cell::Cell::new(0), std::cell::Cell::new(0));
    let run = |(offers, cpus, pack): (Vec<Offer>, f64, bool)| {
        let ask = |effort| {
            let rules = Rules { cpus, penalty_percent: 20, pack, effort };
            roam::choose(&offers, &rules)
        };
        let (exact, likely) = (ask(1 << 13), ask(300));
        prop_assert_eq!(exact.proof, Proof::Optimal);
        if let Proof::Gap(gap) = likely.proof {
            limited.set(limited.get() + 1);
            let most = exact.cost_ppm as f64 * (1.0 + gap as f64 / 1e6);
            prop_assert!(likely.cost_ppm as f64 <= most + 1.0, "{:?} {:?}", likely, exact);
            // Not only bounded: the sets that are tried are good ones.
            prop_assert!(likely.cost_ppm as f64 <= exact.cost_ppm as f64 * 1.05);
        }
        if exact.caches.len() == 1 {
            alone.set(alone.get() + 1);
            prop_assert_eq!(likely.caches.len(), 1);
        }
        Ok(())
    };
    runner.run(&unequal(13), run).expect("close to what trying all sets finds");
    assert!(limited.get() > 50 && alone.get() > 100, "{} {}", limited.get(), alone.get());
}

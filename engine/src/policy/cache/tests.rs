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

/// How busy a core is, in quarters.
fn quarters(core: &Core) -> usize {
    let free = core.threads.iter().filter(|thread| !thread.taken);
    free.map(|thread| 4 - (thread.idle * 4.0 + 1e-9) as usize).max().unwrap_or(4)
}

fn is_untouched(core: &Core) -> bool {
    core.threads.iter().all(|thread| !thread.taken)
}

fn is_whole(cores: &[Core]) -> bool {
    cores.iter().all(|core| is_untouched(core) && quarters(core) < 2)
}

/// What the rule for pinned guests compares between sets of caches: sharing, busy, caches, whole ones broken, cores
/// left over, load, CPUs. `None` for sets that have too few CPUs or a cache to spare.
fn pin_key(caches: &[Vec<Core>], set: &[usize], vcpus: usize) -> Option<Vec<usize>> {
    let (mut first, mut further) = (Vec::new(), Vec::new());
    for &at in set {
        for core in &caches[at] {
            let free = core.threads.iter().filter(|thread| !thread.taken);
            let mut ids: Vec<u32> = free.map(|thread| thread.cpu).collect();
            ids.sort_unstable();
            let load = quarters(core);
            for (nth, id) in ids.into_iter().enumerate() {
                let is_first = is_untouched(core) && nth == 0;
                let pool = if is_first { &mut first } else { &mut further };
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
        return None;
    }
    let mut key = vec![
        vcpus.saturating_sub(firsts),
        picks.iter().filter(|pick| pick.0).count(),
        set.len(),
        set.iter().filter(|&&at| is_whole(&caches[at])).count(),
        firsts - vcpus.min(firsts),
        picks.iter().map(|pick| pick.1).sum(),
    ];
    key.extend(picks.iter().map(|pick| pick.2 as usize));
    Some(key)
}

/// The best of some sets of caches by the rule for pinned guests, and its CPUs.
fn best_to_pin(
    caches: &[Vec<Core>],
    sets: impl Iterator<Item = Vec<usize>>,
    vcpus: usize,
) -> Option<(Vec<usize>, Vec<u32>)> {
    let best = sets.filter_map(|set| Some((pin_key(caches, &set, vcpus)?, set))).min();
    best.map(|(key, set)| (set, key[6..].iter().map(|&cpu| cpu as u32).collect()))
}

/// The rule for pinned guests over every set of caches.
fn pin_by_brute_force(caches: &[Vec<Core>], vcpus: usize) -> Option<(Vec<usize>, Vec<u32>)> {
    let set = |mask: u32| (0..caches.len()).filter(|at| mask >> at & 1 == 1).collect();
    best_to_pin(caches, (1u32..1 << caches.len()).map(set), vcpus)
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

/// What a cache has for pinned guests: cores of which no thread is taken, those of them that are not busy, further
/// CPUs, those that are not busy, and whether all of it is free and idle.
fn supply(cores: &[Core]) -> [usize; 5] {
    let mut supply = [0, 0, 0, 0, usize::from(is_whole(cores))];
    for core in cores {
        let free = core.threads.iter().filter(|thread| !thread.taken).count();
        let (first, idle) = (usize::from(is_untouched(core)), usize::from(quarters(core) < 2));
        let further = free - first;
        supply = [
            supply[0] + first,
            supply[1] + first * idle,
            supply[2] + further,
            supply[3] + further * idle,
            supply[4],
        ];
    }
    supply
}

/// The first five figures that the rule for pinned guests compares, for what a set of caches has together.
fn counts_key(
    [first, idle_first, further, idle_further, whole]: [usize; 5],
    size: usize,
    vcpus: usize,
) -> Option<[usize; 5]> {
    let sharing = vcpus.saturating_sub(first);
    let busy_first = vcpus.min(first).saturating_sub(idle_first);
    let busy = busy_first + sharing.saturating_sub(idle_further);
    (sharing <= further).then(|| [sharing, busy, size, whole, first - vcpus.min(first)])
}

/// The rule for pinned guests on a host of few kinds of caches, `kinds` their positions: every way to take so many of
/// each kind, those with the lowest CPUs first. It cuts nothing.
fn pin_by_counts(
    caches: &[Vec<Core>],
    kinds: &[Vec<usize>],
    vcpus: usize,
) -> Option<(Vec<usize>, Vec<u32>)> {
    let supplies: Vec<[usize; 5]> = kinds.iter().map(|kind| supply(&caches[kind[0]])).collect();
    let mut counts = vec![0usize; kinds.len()];
    let mut best: Option<[usize; 5]> = None;
    let mut sets: Vec<Vec<usize>> = Vec::new();
    while let Some(at) = (0..kinds.len()).find(|&at| counts[at] < kinds[at].len()) {
        counts[..at].fill(0);
        counts[at] += 1;
        let mut sums = [0; 5];
        for (supply, &many) in supplies.iter().zip(&counts) {
            sums.iter_mut().zip(supply).for_each(|(sum, one)| *sum += one * many);
        }
        let Some(key) = counts_key(sums, counts.iter().sum(), vcpus) else { continue };
        if best.is_none_or(|best| key <= best) {
            if best != Some(key) {
                sets.clear();
            }
            best = Some(key);
            let set = kinds.iter().zip(&counts).flat_map(|(kind, &many)| kind[..many].to_vec());
            let mut set: Vec<usize> = set.collect();
            set.sort_unstable();
            sets.push(set);
        }
    }
    best_to_pin(caches, sets.into_iter(), vcpus)
}

/// The same five figures of the best set of a host whose caches may all differ: for each number of caches and each sum
/// of what they have, the fewest whole ones and the fewest cores. Only without hardware threads and for few vCPUs.
fn pin_by_sums(caches: &[Vec<Core>], vcpus: usize) -> Option<[usize; 5]> {
    // By size, cores and idle cores, these counted up to what is asked for.
    let at = |size: usize, first: usize, idle: usize| {
        (size * (vcpus + 1) + first.min(vcpus)) * (vcpus + 1) + idle.min(vcpus)
    };
    let mut least: Vec<Option<(usize, usize)>> = vec![None; at(vcpus, vcpus, vcpus) + 1];
    least[at(0, 0, 0)] = Some((0, 0));
    for cores in caches {
        let [first, idle, _, _, whole] = supply(cores);
        for size in (0..vcpus).rev() {
            for (firsts, idles) in (0..=vcpus).flat_map(|f| (0..=vcpus).map(move |i| (f, i))) {
                let Some((wholes, all)) = least[at(size, firsts, idles)] else { continue };
                let with = Some((wholes + whole, all + first));
                let place = &mut least[at(size + 1, firsts + first, idles + idle)];
                if place.is_none() || with < *place {
                    *place = with;
                }
            }
        }
    }
    let mut best = None;
    for size in 1..=vcpus {
        for idles in 0..=vcpus {
            if let Some((wholes, all)) = least[at(size, vcpus, idles)] {
                let key = counts_key([all, idles, 0, 0, wholes], size, vcpus);
                best = best.into_iter().chain(key).min();
            }
        }
    }
    best
}

fn five_figures(caches: &[Vec<Core>], choice: &pin::Choice, vcpus: usize) -> [usize; 5] {
    let key = pin_key(caches, &choice.caches, vcpus).expect("a set that holds the guest");
    assert_eq!((key[0], key[1]), (choice.sharing, choice.busy));
    [key[0], key[1], key[2], key[3], key[4]]
}

/// The steps that an answer may take.
const STEPS: u64 = 10_000;

#[test]
fn up_to_64_caches_pinned_guests_get_what_a_slow_solver_finds() {
    // The cores of a kind of caches, as (idle, taken) of their threads; how many caches there are of it.
    let thread = (0u8..=4, 0u8..10);
    let kind = (proptest::collection::vec(thread, 32), 1usize..=40);
    let shape = (1usize..=8, prop_oneof![Just(1usize), Just(2), Just(4)], any::<bool>());
    let hosts = (proptest::collection::vec(kind, 1..=3), shape, 0u8..5, 0.0f64..1.1);
    let config = Config { cases: 500, failure_persistence: None, ..Config::default() };
    let rng = proptest::test_runner::TestRng::deterministic_rng(
        proptest::test_runner::RngAlgorithm::ChaCha,
    );
    let exact = std::cell::Cell::new(0);
    type Kind = (Vec<(u8, u8)>, usize);
    let run =
        |(kinds, (per, threads, mixed), full, part): (Vec<Kind>, (usize, usize, bool), u8, f64)| {
            // Which kind each cache is of: one after the other, or in turns.
            let mut of: Vec<usize> = Vec::new();
            for (at, (_, many)) in kinds.iter().enumerate() {
                of.extend(std::iter::repeat_n(at, *many));
            }
            of.truncate(64);
            if mixed {
                of.sort_by_key(|&at| (at * 7 + 3) % 5);
                let half = of.len() / 2;
                of.rotate_left(half / 2);
            }
            let cores = |nth: usize| {
                let mut noise = kinds[of[nth]].0.iter();
                let core = |core: usize| {
                    let thread = |thread: usize| {
                        let &(idle, taken) = noise.next().expect("32 threads");
                        let cpu = (thread * of.len() + nth) * per + core;
                        Thread { cpu: cpu as u32, idle: f64::from(idle) / 4.0, taken: taken < full }
                    };
                    Core { threads: (0..threads).map(thread).collect() }
                };
                (0..per).map(core).collect::<Vec<Core>>()
            };
            let caches: Vec<Vec<Core>> = (0..of.len()).map(cores).collect();
            let kinds: Vec<Vec<usize>> = (0..kinds.len())
                .map(|kind| (0..of.len()).filter(|&at| of[at] == kind).collect())
                .filter(|kind: &Vec<usize>| !kind.is_empty())
                .collect();
            let free = caches.iter().flatten().flat_map(|core| &core.threads);
            let free = free.filter(|thread| !thread.taken).count();
            let vcpus = ((part * free as f64) as usize).max(1);
            let choice = pin::choose(&caches, vcpus, STEPS);
            let found = pin_by_counts(&caches, &kinds, vcpus);
            prop_assert_eq!(choice.is_some(), found.is_some());
            if let (Some(choice), Some(found)) = (choice, found) {
                match choice.proof {
                    Proof::Optimal => {
                        exact.set(exact.get() + 1);
                        prop_assert_eq!((choice.caches, choice.cpus), found);
                    }
                    Proof::Gap(_) => {
                        let key = pin_key(&caches, &found.0, vcpus).expect("it holds the guest");
                        prop_assert_eq!(&five_figures(&caches, &choice, vcpus)[..3], &key[..3]);
                    }
                }
            } else {
                exact.set(exact.get() + 1);
            }
            Ok(())
        };
    TestRunner::new_with_rng(config, rng).run(&hosts, run).expect("exact, or a true gap");
    println!("{} of 500 exact", exact.get());
    assert!(exact.get() >= 490, "{} of 500 exact", exact.get());
}

#[test]
fn up_to_64_unequal_caches_pinned_guests_get_what_a_slow_solver_finds() {
    let cores = proptest::collection::vec((0u8..=4, 0u8..10), 64 * 8);
    let hosts = (cores, 11usize..=64, 1usize..=8, 0u8..7, 1usize..=12);
    let config = Config { cases: 500, failure_persistence: None, ..Config::default() };
    let rng = proptest::test_runner::TestRng::deterministic_rng(
        proptest::test_runner::RngAlgorithm::ChaCha,
    );
    let exact = std::cell::Cell::new(0);
    let run = |(noise, count, per, full, vcpus): (Vec<(u8, u8)>, usize, usize, u8, usize)| {
        let core = |at: usize| {
            let (idle, taken) = noise[at];
            let idle = f64::from(idle) / 4.0;
            Core { threads: vec![Thread { cpu: at as u32, idle, taken: taken < full }] }
        };
        let cache = |nth: usize| (0..per).map(|of| core(nth * per + of)).collect();
        let caches: Vec<Vec<Core>> = (0..count).map(cache).collect();
        let choice = pin::choose(&caches, vcpus, STEPS);
        let best = pin_by_sums(&caches, vcpus);
        prop_assert_eq!(choice.is_some(), best.is_some());
        if let (Some(choice), Some(best)) = (choice, best) {
            let found = five_figures(&caches, &choice, vcpus);
            prop_assert_eq!(found[..3].to_vec(), best[..3].to_vec());
            prop_assert!(found >= best);
            if choice.proof == Proof::Optimal {
                exact.set(exact.get() + 1);
                prop_assert_eq!(found, best);
            }
        } else {
            exact.set(exact.get() + 1);
        }
        Ok(())
    };
    TestRunner::new_with_rng(config, rng).run(&hosts, run).expect("exact, or a true gap");
    println!("{} of 500 exact", exact.get());
    assert!(exact.get() >= 400, "{} of 500 exact", exact.get());
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

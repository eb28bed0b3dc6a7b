//! Policies against the engine's own answers, the other rules against all sets tried.

use std::cmp::Reverse;

use placer_engine::policy::{best as engine_best, numad as engine_numad};
use placer_engine::{Bytes, CpuShare, Policy, Request, Snapshot, advise};
use proptest::prelude::*;

use super::super::made::Shape;
use super::super::tests::{made, recorded};
use super::*;

/// A node's free, claimed, busy, claimed CPUs and vCPUs, each as a part of what it can be.
type Parts = (f64, f64, f64, f64, u64);

fn any_parts() -> impl Strategy<Value = Vec<Parts>> {
    let part = || prop_oneof![Just(0.0), Just(1.0), 0.0f64..1.0];
    proptest::collection::vec((part(), part(), part(), part(), 0u64..500), 64)
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
fn seen(machine: &Machine, parts: &[Parts]) -> Vec<Seen> {
    let each =
        machine.nodes.iter().zip(parts).map(|(built, &(free, claimed, busy, cpus, vcpus))| {
            let free = (built.there as f64 * free) as u64;
            Seen {
                free,
                claimed: (free as f64 * claimed) as u64,
                busy: (f64::from(built.cpus) * 200.0 * busy) as u64,
                claimed_cpus: (f64::from(built.cpus) * 50.0 * cpus) as u64,
                vcpus,
                cpus: built.cpus,
                cap: built.cap,
            }
        });
    each.collect()
}

fn snapshot(view: View<'_>) -> Snapshot {
    let (before, now) = numad::readings(view);
    let host = std::sync::Arc::clone(&view.machine.host);
    Snapshot::new(host, Some(before), now).with_charges(numad::charges(view))
}

const TUNING: Tuning = Tuning { memory_bound: 0.3, effort: Some(20_000) };

/// Asks the engine as the program does, and the replay's rule.
fn compare(machine: &Machine, parts: &[Parts], cpus: u32, mib: u32) {
    let seen = seen(machine, parts);
    let view = View { machine, nodes: &seen };
    let snapshot = snapshot(view);
    let memory = Bytes::from_mib(u64::from(mib)).expect("few");
    let request = Request::new(CpuShare::from_hundredths(u64::from(cpus)), memory);
    let numads = engine_numad::Version::ALL.map(Rule::Numad);
    for rule in [Rule::Best, Rule::Pack].into_iter().chain(numads) {
        let prefer = if rule == Rule::Pack { Prefer::Pack } else { Prefer::Room };
        let Tuning { memory_bound, effort } = TUNING;
        let rules = engine_best::Rules { memory_bound, effort, prefer, ..Default::default() };
        let policy = match rule {
            Rule::Numad(version) => Policy::Numad(engine_numad::Rules::lenient(version)),
            _ => Policy::Best(rules),
        };
        let is_numad = matches!(rule, Rule::Numad(_));
        let advice = advise(&snapshot, &request.clone().with_policy(policy)).expect("advice");
        let mut chooser = Chooser::new(rule, TUNING, machine);
        if !chooser.choose(view, Want { cpus, mib }) {
            // Only the whole host's want of memory or CPUs is a reason; of numad none is.
            let lacking = is_numad || !advice.fits();
            assert!(lacking, "{rule} {cpus}:{mib} {advice:?}");
            continue;
        }
        let named: placer_engine::NodeSet =
            chooser.named.iter().map(|&at| machine.nodes[at].id).collect();
        assert_eq!(named, advice.nodes, "{rule} {cpus}:{mib}");
        if !is_numad {
            assert!(advice.fits(), "{rule} {cpus}:{mib}");
            let split: Vec<_> =
                chooser.parts.iter().map(|part| (part.cpus * 1e6).round() / 1e6).collect();
            let told: Vec<_> = advice.split.iter().map(|share| share.cpus).collect();
            assert_eq!(split, told, "{rule} {cpus}:{mib}");
        }
    }
}

/// All sets that hold a guest, as positions.
fn holding(view: View<'_>, want: Want) -> Vec<Vec<usize>> {
    let count = view.nodes.len();
    let sets =
        (1u32..1 << count).map(|mask| (0..count).filter(|&at| mask >> at & 1 == 1).collect());
    let holds = |set: &Vec<usize>| {
        let sum = |figure: &dyn Fn(usize) -> u64| set.iter().map(|&at| figure(at)).sum::<u64>();
        sum(&|at| view.nodes[at].left()) >= u64::from(want.mib)
            && sum(&|at| u64::from(view.machine.nodes[at].cpus) * 100) >= u64::from(want.cpus)
    };
    sets.filter(holds).collect()
}

fn by(rule: Rule, view: View<'_>, want: Want) -> Vec<usize> {
    let mut named = Vec::new();
    match rule {
        Rule::FirstFit => simple::first_fit(view, want, &mut named),
        Rule::MostFree => simple::most_free(view, want, &mut named),
        Rule::Narrowest => simple::narrowest(view, want, &mut named),
        _ => simple::xen(view, want, &mut named),
    }
    named
}

const KINDS: &[&str] =
    &["ring-4-busy", "uneven-8", "cpuless", "memless", "hmat", "one-node", "isolated-4", "sixteen"];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn the_policies_are_the_engines(
        kind in 0..=KINDS.len(),
        parts in any_parts(),
        cpus in 1u32..2_000,
        memory in 0.0f64..1.2,
    ) {
        let machine = match KINDS.get(kind) {
            Some(name) => recorded(name),
            None => made((24, 8, 4), Shape::Mesh),
        };
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let mib = ((machine.mib() * memory * memory) as u32).max(1);
        compare(&machine, &parts, cpus, mib);
    }

    #[test]
    fn the_other_rules_are_what_their_definitions_say(
        kind in 0..KINDS.len() - 1,
        parts in any_parts(),
        cpus in 1u32..1_200,
        memory in 0.0f64..1.0,
    ) {
        let machine = recorded(KINDS[kind]);
        let seen = seen(&machine, &parts);
        let view = View { machine: &machine, nodes: &seen };
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let want = Want { cpus, mib: ((machine.mib() * memory * memory) as u32).max(1) };
        let sets = holding(view, want);
        let sum = |set: &[usize], figure: fn(&Seen) -> u64| -> u64 {
            set.iter().map(|&at| figure(&seen[at])).sum()
        };
        let mask = |set: &[usize]| set.iter().map(|&at| 1u32 << at).sum::<u32>();
        let narrowest = sets.iter().min_by_key(|set| (set.len(), mask(set)));
        let xen = sets.iter().min_by_key(|set| {
            let (vcpus, free) = (sum(set, |node| node.vcpus), sum(set, Seen::left));
            (set.len(), vcpus, Reverse(free), set.to_vec())
        });
        let lowest = sets.iter().find(|set| set.len() == 1);
        if let (Some(narrowest), Some(xen)) = (narrowest, xen) {
            prop_assert_eq!(&by(Rule::Narrowest, view, want), narrowest);
            prop_assert_eq!(&by(Rule::Xen, view, want), xen);
            for rule in [Rule::FirstFit, Rule::MostFree] {
                prop_assert!(sets.contains(&by(rule, view, want)), "{}", rule);
            }
        }
        if let Some(lowest) = lowest {
            prop_assert_eq!(&by(Rule::FirstFit, view, want), lowest);
        }
    }
}

#[test]
fn the_simple_rules_by_hand() {
    let machine = made((4, 4, 8), Shape::Flat);
    let node = |free, vcpus| Seen { free, vcpus, cpus: 4, cap: 4.0, ..Seen::default() };
    let seen = [node(3_000, 100), node(5_000, 900), node(5_000, 300), node(4_000, 200)];
    let view = View { machine: &machine, nodes: &seen };
    for (cpus, mib, first, free, narrowest, xen) in [
        (100, 1_000, &[0][..], &[1][..], &[0][..], &[0][..]),
        (100, 4_500, &[1], &[1], &[1], &[2]),
        // No node holds it: 0 and 1 have 8,000; 2 and 3 have 9,000 and fewer vCPUs than 1 and 2.
        (100, 8_500, &[0, 1, 2], &[1, 2], &[1, 2], &[2, 3]),
        // Eight CPUs are two nodes.
        (800, 1_000, &[0, 1], &[1, 2], &[0, 1], &[0, 3]),
    ] {
        let want = Want { cpus, mib };
        assert_eq!(by(Rule::FirstFit, view, want), first, "{want:?}");
        assert_eq!(by(Rule::MostFree, view, want), free, "{want:?}");
        assert_eq!(by(Rule::Narrowest, view, want), narrowest, "{want:?}");
        assert_eq!(by(Rule::Xen, view, want), xen, "{want:?}");
    }
}

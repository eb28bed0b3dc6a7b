//! A host that is ended at each of its operations: whoever comes after finishes the moves, or puts them back.

mod world;

use std::collections::BTreeMap;

use placer_engine::NodeId;
use proptest::prelude::*;

use super::*;
use world::{Placed, World};

fn nodes(list: &str) -> placer_engine::NodeSet {
    crate::definition::parse_list(list).expect("nodes")
}

fn rates() -> Pace {
    Pace::new(MAX_RATE)
}

/// Runs all moves of the journal that was saved, as `placer balance --apply` does after a kill.
fn finish(world: &World) -> Result<(), MoveError> {
    let mut journal = world.saved();
    let (mut host, mut books) = (world.clone(), world.clone());
    for at in 0..journal.moves.len() {
        match journal.moves[at].phase {
            Phase::Planned | Phase::Moving => {
                carry(&mut journal, at, &mut host, &mut books, rates())?;
            }
            Phase::Returning => back(&mut journal, at, &mut host, &mut books, rates())?,
            Phase::Moved | Phase::Returned | Phase::Dropped => {}
        }
    }
    Ok(())
}

/// Puts everything back, as `placer balance --undo` does.
fn undo(world: &World) -> Result<(), MoveError> {
    let mut journal = world.saved();
    let (mut host, mut books) = (world.clone(), world.clone());
    for at in (0..journal.moves.len()).rev() {
        if matches!(journal.moves[at].phase, Phase::Moving | Phase::Moved | Phase::Returning) {
            back(&mut journal, at, &mut host, &mut books, rates())?;
        }
    }
    Ok(())
}

/// How many operations a move takes that is left alone.
fn operations(make: impl Fn() -> World) -> u32 {
    let world = make();
    finish(&world).expect("moved");
    world.operations()
}

#[test]
fn steps_of_a_guest_with_a_group_and_of_one_without() {
    let world = World::new(4, 0).in_a_group();
    let record = &world.saved().moves[0];
    let words = |direction| steps(record, direction);
    assert_eq!(
        words(Direction::There),
        [
            Step::Claim,
            Step::Mems("0-1".to_owned()),
            Step::Probe,
            Step::GroupCpus("4-7".to_owned()),
            Step::Threads,
            Step::Memory,
            Step::Mems("1".to_owned()),
            Step::Threads,
            Step::Settle,
        ]
    );
    assert_eq!(words(Direction::Back)[1], Step::Mems("0-1".to_owned()));
    assert_eq!(words(Direction::Back)[5], Step::Mems("0".to_owned()));
    let without = Record { cage: None, memory: 0, ..record.clone() };
    assert_eq!(
        steps(&without, Direction::There),
        [Step::Claim, Step::Threads, Step::Threads, Step::Settle]
    );
}

#[test]
fn a_killed_move_is_finished_or_put_back_whatever_was_done_last() {
    for make in [
        || World::new(70, 0),
        || World::new(9, 3).in_a_group(),
        || World::new(9, 3).in_libvirt(),
        || World::new(30, 0).spread(),
        || World::new(30, 0).marked(true),
    ] {
        let all = operations(make);
        assert!(all > 20, "{all}");
        for end in 0..=all {
            let world = make();
            world.end_after(end);
            let _ = finish(&world);
            world.restart();
            world.check_sets();
            // The next one is killed as well, at a place that differs.
            world.end_after((end * 7 + 3) % all);
            let _ = finish(&world);
            world.restart();
            world.check_sets();
            finish(&world).expect("finished");
            assert_eq!(world.placed(), Placed::There, "ended after {end}");

            let world = make();
            world.end_after(end);
            let _ = finish(&world);
            world.restart();
            world.end_after((end * 5 + 1) % all);
            let _ = undo(&world);
            world.restart();
            world.check_sets();
            undo(&world).expect("put back");
            assert_eq!(world.placed(), Placed::Here, "ended after {end}");
        }
    }
}

#[test]
fn a_step_that_is_refused_puts_everything_back() {
    for make in
        [|| World::new(20, 0), || World::new(9, 3).in_a_group(), || World::new(9, 3).in_libvirt()]
    {
        for refused in 0..operations(make) {
            let world = make();
            world.refuse(refused);
            let moved = finish(&world);
            let after = world.placed();
            let journal = world.saved();
            match journal.moves[0].phase {
                // What was refused did not matter: a thread or a page that had gone.
                Phase::Moved => assert!(moved.is_ok() && after == Placed::There, "{refused}"),
                Phase::Returned => assert!(moved.is_err() && after == Placed::Here, "{refused}"),
                // The journal could not be written: the next run goes on.
                _ => {
                    assert!(moved.is_err());
                    finish(&world).expect("finished");
                }
            }
        }
    }
}

#[test]
fn threads_that_are_born_meanwhile_are_bound() {
    for make in [|| World::new(9_000, 0), || World::new(9_000, 0).in_libvirt()] {
        let world = make();
        world.births(15);
        finish(&world).expect("moved");
        assert_eq!(world.threads_count(), 3 + 15);
        assert_eq!(world.placed(), Placed::There);
        undo(&world).expect("back");
        assert_eq!(world.placed(), Placed::Here);
    }
}

#[test]
fn a_guest_of_libvirts_keeps_what_its_user_pinned_since() {
    let world = World::new(50, 0).in_libvirt();
    finish(&world).expect("moved");
    world.pin_vcpu("6");
    undo(&world).expect("back");
    let cpus: Vec<String> = [100, 101, 102].map(|thread| world.cpus_of(thread)).into();
    assert_eq!(cpus, ["0-3", "6", "0-3"]);
}

#[test]
fn a_guest_that_libvirt_runs_as_another_process_is_left_alone() {
    let world = World::new(50, 0).in_libvirt();
    finish(&world).expect("moved");
    // It was started again, or ended.
    for text in ["200\n", ""] {
        world.set_text("/run/libvirt/qemu/g.pid", text);
        let why = "libvirt does not run process 100 as g any more".to_owned();
        assert_eq!(undo(&world), Err(MoveError::Libvirt(why)));
        assert_eq!((world.cpus_of(101), world.thread_moves()), ("4-7".to_owned(), 0));
    }
    world.set_text("/run/libvirt/qemu/g.pid", "100\n");
    undo(&world).expect("back");
    assert_eq!(world.placed(), Placed::Here);
}

/// What virsh says of the guest: definitions with these elements, that of the guest that runs first.
fn ask_libvirt(world: &World, live: &str, kept: Option<&str>) -> Result<Cage, String> {
    let persistent = if kept.is_some() { "yes" } else { "no" };
    let about = format!("Id: 3\nName:    g\nUUID:    u-1\nPersistent:  {persistent}\n");
    world.set_text("virsh dominfo", &about);
    let whole = |elements: &str| {
        format!("<domain type='kvm' id='3'><name>g</name><memory>9000</memory>{elements}</domain>")
    };
    world.set_text("virsh dumpxml", &whole(live));
    world.set_text("virsh dumpxml --inactive", &whole(kept.unwrap_or("<vcpu>no number</vcpu>")));
    let guest = world.saved().moves[0].guest;
    libvirt_cage(&mut world.clone(), "g", &guest, std::path::Path::new("/g"), true)
}

const AUTO: &str = "<vcpu placement='auto'>1</vcpu><numatune><memory mode='restrictive' placement='auto'/></numatune>";
/// As libvirt has it after a move.
const AGAIN: &str = "<vcpu placement='auto'>1</vcpu><cputune><vcpupin vcpu='0' cpuset='0-3'/></cputune>\
    <numatune><memory mode='restrictive' nodeset='0'/></numatune>";

#[test]
fn what_libvirt_can_move_is_found_and_described() {
    let cage = World::new(5, 0).in_libvirt().saved().moves[0].cage.clone();
    let free = cage.clone().map(|cage| Cage { mems: String::new(), ..cage });
    let plain = "<vcpu placement='static' cpuset='0-3'>1</vcpu>";
    for (live, kept, wanted) in [
        (AUTO, Some(AUTO), &cage),
        (AUTO, None, &cage),
        (AGAIN, Some(AUTO), &cage),
        (AGAIN, None, &cage),
        // libvirt has no nodes for its memory.
        (plain, Some(plain), &free),
    ] {
        let found = ask_libvirt(&World::new(5, 0).in_libvirt(), live, kept);
        assert_eq!(found.ok(), *wanted, "{live}");
    }
}

#[test]
fn guests_that_libvirt_cannot_move_or_that_their_users_pinned_are_refused() {
    let refused = |live: &str, kept: Option<&str>| {
        let world = World::new(5, 0).in_libvirt();
        let found = ask_libvirt(&world, live, kept);
        assert_eq!(world.placed(), Placed::Here);
        found.expect_err("refused")
    };
    let in_mode = |mode: &str| AUTO.replace("restrictive", mode);
    for mode in ["interleave", "preferred"] {
        let why = refused(&in_mode(mode), None);
        assert!(why.starts_with(&format!("the mode of its memory is {mode}, ")), "{why}");
    }
    let cells = "<vcpu>1</vcpu><cpu><numa><cell id='0' cpus='0' memory='9000'/></numa></cpu>\
        <numatune><memory mode='strict' nodeset='0'/>\
        <memnode cellid='0' mode='strict' nodeset='0'/></numatune>";
    assert_eq!(refused(cells, None), "its NUMA cells are bound one by one (memnode)");
    let by_hand = "its definition binds it in part: its user chose";
    let half = "<vcpu placement='auto'>1</vcpu><numatune><memory mode='restrictive' nodeset='0'/></numatune>";
    for (live, kept) in [(AGAIN, Some(AGAIN)), (AGAIN, Some(half)), (half, None)] {
        assert_eq!(refused(live, kept), by_hand, "{live}");
    }
    // libvirt itself says what it does not do for guests in mode strict.
    let world = World::new(5, 0).in_libvirt();
    world.set_text("virsh numatune", "it requires restrictive numa mode");
    let why = ask_libvirt(&world, &in_mode("strict"), None).expect_err("refused");
    assert_eq!(
        why,
        "it requires restrictive numa mode; start it with <memory mode='restrictive' placement='auto'/>"
    );
    assert!(ask_libvirt(&World::new(5, 0).in_libvirt(), &in_mode("strict"), None).is_ok());
    // Another guest has this name's number for its id.
    world.set_text("virsh dominfo", "Name: web\nUUID: u-2\n");
    let guest = world.saved().moves[0].guest;
    let other = libvirt_cage(&mut world.clone(), "7", &guest, std::path::Path::new("/g"), true);
    assert_eq!(other, Err("virsh found \"web\" by this name".to_owned()));
}

#[test]
fn pinned_memory_is_seen_before_threads_are_moved_away_from_it() {
    let world = World::new(64, 60);
    let moved = finish(&world);
    assert_eq!(moved, Err(MoveError::Pinned));
    assert_eq!(world.placed(), Placed::Here);
    assert_eq!(world.thread_moves(), 0);
    let record = &world.saved().moves[0];
    assert_eq!(
        (record.phase, record.why.as_deref()),
        (Phase::Returned, Some("its memory is pinned and cannot be moved"))
    );
    // A few pages that stay are counted.
    let world = World::new(64, 3);
    finish(&world).expect("moved");
    assert_eq!(
        (world.saved().moves[0].moved, world.saved().moves[0].stayed),
        (61 * 4096, 3 * 4096)
    );
}

/// Pages that kernel.numa_balancing has marked are holes to move_pages(2) of Linux 6.1.
#[test]
fn pages_that_the_kernel_has_marked_are_moved_too_or_counted() {
    for make in [|| World::new(5_000, 0), || World::new(5_001, 0).spread()] {
        let world = make().marked(true);
        finish(&world).expect("moved");
        assert_eq!((world.placed(), world.saved().moves[0].stayed), (Placed::There, 0));
        undo(&world).expect("back");
        assert_eq!(world.placed(), Placed::Here);
    }
    // Where the guest's memory may not be read, the report says that they stayed.
    let world = World::new(64, 0).marked(false);
    finish(&world).expect("moved");
    let record = &world.saved().moves[0];
    assert_eq!((record.moved, record.stayed), (32 * 4096, 32 * 4096));
    // Pages of zeros are no memory of the guest's: nothing of it stayed.
    let world = World::new(64, 0).zeros();
    finish(&world).expect("moved");
    let record = &world.saved().moves[0];
    assert_eq!((record.moved, record.stayed), (32 * 4096, 0));
}

#[test]
fn a_full_node_and_an_ended_guest() {
    let world = World::new(5_000, 0);
    world.set_room(NodeId(1), 2_500);
    assert_eq!(finish(&world), Err(MoveError::NoRoom));
    assert_eq!(world.placed(), Placed::Here);

    let all = operations(|| World::new(20, 0));
    for end in 0..all {
        let world = World::new(20, 0);
        world.guest_ends_after(end);
        let moved = finish(&world);
        let phase = world.saved().moves[0].phase;
        let ended = phase == Phase::Dropped && moved == Err(MoveError::Gone);
        assert!(ended || phase == Phase::Moved, "{end}: {phase:?} {moved:?}");
        assert!(!world.holds(), "{end}");
    }
}

#[test]
fn a_guest_whose_old_nodes_are_others_now_stays() {
    let world = World::new(50, 0);
    finish(&world).expect("moved");
    world.occupy(true);
    assert!(matches!(undo(&world), Err(MoveError::Occupied(_))));
    // Nothing was changed, and no later run puts it back unasked.
    assert_eq!((world.saved().moves[0].phase, world.placed()), (Phase::Moved, Placed::There));
    world.occupy(false);
    undo(&world).expect("back");
    assert_eq!(world.placed(), Placed::Here);

    // Where there is no room for it from the start, it is where it was.
    let world = World::new(50, 0);
    world.occupy(true);
    assert!(matches!(finish(&world), Err(MoveError::Occupied(_))));
    assert_eq!((world.saved().moves[0].phase, world.placed()), (Phase::Returned, Placed::Here));
}

#[test]
fn a_full_node_keeps_no_guest_from_being_put_back() {
    for make in [|| World::new(5_000, 0), || World::new(5_000, 0).in_a_group()] {
        let world = make();
        finish(&world).expect("moved");
        world.set_room(NodeId(0), 100);
        undo(&world).expect("back, but for its memory");
        let record = &world.saved().moves[0];
        assert_eq!(record.phase, Phase::Returned);
        assert!(record.why.as_deref().is_some_and(|why| why.contains("are full")), "{record:?}");
        world.check_sets();
    }
}

#[test]
fn threads_that_a_user_has_pinned_since_are_left_alone() {
    let world = World::new(50, 0);
    finish(&world).expect("moved");
    world.pin(101, "5");
    undo(&world).expect("back");
    let cpus: Vec<String> = [100, 101, 102].map(|thread| world.cpus_of(thread)).into();
    assert_eq!(cpus, ["0-3", "5", "0-7"]);

    // A killed run that is finished later as well.
    let world = World::new(50, 0);
    world.end_after(3);
    assert!(finish(&world).is_err());
    world.restart();
    world.pin(101, "2");
    finish(&world).expect("moved");
    let cpus: Vec<String> = [100, 101, 102].map(|thread| world.cpus_of(thread)).into();
    assert_eq!(cpus, ["4-7", "2", "4-7"]);
}

#[test]
fn guests_of_earlier_plans_rest() {
    let mut journal = World::new(1, 0).saved();
    let guest = journal.moves[0].guest;
    assert_eq!(journal.rested_s(&guest, 100.0), None);
    journal.moves[0].finished_s = Some(40.0);
    journal.begin(Vec::new(), &[], 100.0);
    assert_eq!(journal.rested_s(&guest, 100.0), Some(60.0));
    journal.begin(Vec::new(), &[], 4_000.0);
    assert_eq!(journal.rested_s(&guest, 4_000.0), Some(3_960.0));
    journal.begin(Vec::new(), &[], 700_000.0);
    assert_eq!(journal.rested_s(&guest, 700_000.0), None);
}

#[test]
fn the_nodes_that_a_guest_left_are_known_for_a_week() {
    let world = World::new(5, 0);
    finish(&world).expect("moved");
    let mut journal = world.saved();
    let record = journal.moves[0].clone();
    let (guest, at) = (record.guest, record.finished_s.expect("finished"));
    assert_eq!(journal.left(&guest, at + 60.0), [nodes("0")]);
    // One that was put back has left where it was for a while, beside what the journal had before.
    let back = Record { phase: Phase::Returned, from: nodes("1"), to: nodes("2"), ..record };
    journal.begin(vec![back], &[], at + 60.0);
    assert_eq!(journal.left(&guest, at + 60.0), [nodes("0"), nodes("2")]);
    let read = Journal::parse(&journal.to_text(), "boot").expect("a journal");
    assert_eq!(read, journal);
    assert_eq!(journal.left(&guest, at + 8.0 * 86_400.0), [] as [placer_engine::NodeSet; 0]);
    // However many there are, the newest are known.
    for _ in 0..3_000 {
        journal.moves[0].phase = Phase::Moved;
        let moves = journal.moves.clone();
        journal.begin(moves, &[], at + 60.0);
    }
    assert_eq!(journal.rested.len(), 2_048);
}

#[test]
fn moved_guests_that_are_still_judged_keep_their_records() {
    let some = World::new(1, 0).saved().moves[0].clone();
    let guest = |pid| placer_engine::claims::ProcessId { pid, ..some.guest };
    let record = |pid, group, phase| Record { guest: guest(pid), group, phase, ..some.clone() };
    let all = |journal: &Journal| -> Vec<(u32, usize, bool)> {
        let moves = journal.moves.iter();
        moves.map(|record| (record.guest.pid, record.group, record.is_earlier)).collect()
    };
    let mut journal = Journal::new("boot");
    let first =
        [(1, 0), (2, 0), (3, 1), (4, 2)].map(|(pid, group)| record(pid, group, Phase::Moved));
    journal.begin(first.to_vec(), &[guest(9)], 1.0);
    assert_eq!(all(&journal), [(1, 0, false), (2, 0, false), (3, 1, false), (4, 2, false)]);
    // Of an exchange both can be put back; groups of a new plan have other numbers.
    journal.moves[3].phase = Phase::Returned;
    journal.begin(vec![record(5, 0, Phase::Moved)], &[guest(1), guest(3), guest(4)], 2.0);
    assert_eq!(all(&journal), [(1, 0, true), (2, 0, true), (3, 1, true), (5, 2, false)]);
    let read = Journal::parse(&journal.to_text(), "boot").expect("a journal");
    assert_eq!(read, journal);
    // What is being put back is finished or taken back with the last plan, and so is its exchange.
    let mut returning = journal.clone();
    returning.moves[1].phase = Phase::Returning;
    returning.adopt_returning();
    assert_eq!(all(&returning), [(1, 0, false), (2, 0, false), (3, 1, true), (5, 2, false)]);
    // One that is moved again is judged by its new move, and its exchange stays.
    let again = vec![record(2, 0, Phase::Planned)];
    journal.begin(again, &[guest(1), guest(3), guest(5)], 3.0);
    assert_eq!(all(&journal), [(3, 1, true), (5, 2, true), (2, 3, false)]);
}

#[test]
fn memory_that_moves_between_nodes_which_the_guest_keeps_is_counted() {
    let world = World::new(100, 0).keeping_its_node(30);
    finish(&world).expect("moved");
    assert_eq!((world.placed(), world.saved().moves[0].moved), (Placed::There, 70 * 4096));
}

#[test]
fn memory_is_moved_at_the_rate() {
    let world = World::new(20_000, 0);
    let mut journal = world.saved();
    let (mut host, mut books) = (world.clone(), world.clone());
    carry(&mut journal, 0, &mut host, &mut books, Pace::new(16 << 20)).expect("moved");
    // 20,000 pages of 4 KiB at 16 MiB/s, what was probed aside.
    let s = world.paused().as_secs_f64();
    assert!((4.5..=4.9).contains(&s), "{s}");
}

#[test]
fn the_journal_is_read_back_and_those_of_other_boots_are_void() {
    let journal = World::new(5, 0).in_a_group().saved();
    let text = journal.to_text();
    assert_eq!(Journal::parse(&text, "boot"), Ok(journal.clone()));
    assert_eq!(Journal::parse(&text, "other"), Ok(Journal::new("other")));
    assert!(Journal::parse(b"{}", "boot").is_err());
    assert!(Journal::parse(&text[..text.len() / 2], "boot").is_err());
    let version = String::from_utf8(text).expect("text").replace("\"version\":1", "\"version\":9");
    let error = Journal::parse(version.as_bytes(), "boot").expect_err("another version");
    assert_eq!(error, "expected version 1, found 9");
    let mut journal = journal;
    let guest = journal.moves[0].guest;
    journal.keep(guest, 50.0, "one");
    journal.keep(guest, 60.0, "two");
    assert_eq!(journal.kept.len(), 1);
    journal.forget(60.0);
    assert_eq!(journal.kept, []);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Any memory, ended three times anywhere, then finished or put back.
    #[test]
    fn any_kills(
        pages in 1_u64..200,
        ends in proptest::collection::vec((0_u32..80, any::<bool>()), 0..4),
        group in 0..3,
        spread in any::<bool>(),
        last in any::<bool>(),
    ) {
        let mut world = World::new(pages, 0);
        world = match group {
            0 => world,
            1 => world.in_a_group(),
            _ => world.in_libvirt(),
        };
        if spread { world = world.spread() }
        for (end, forward) in ends {
            world.end_after(end);
            let _ = if forward { finish(&world) } else { undo(&world) };
            world.restart();
            world.check_sets();
        }
        // What is being put back is not moved again.
        let returned = matches!(world.saved().moves[0].phase, Phase::Returning | Phase::Returned);
        if last {
            finish(&world).expect("finished");
            let wanted = if returned { Placed::Here } else { Placed::There };
            prop_assert_eq!(world.placed(), wanted);
        } else {
            undo(&world).expect("put back");
            prop_assert_eq!(world.placed(), Placed::Here);
        }
    }
}

/// Where memory is, by node.
fn by_node(pages: &BTreeMap<u64, (NodeId, bool)>) -> BTreeMap<u32, u64> {
    let mut sums = BTreeMap::new();
    for (node, _) in pages.values() {
        *sums.entry(node.0).or_insert(0) += 1;
    }
    sums
}

//! Whole screens, on recorded machines, compared with what they should be: `screens/*.txt`.
//!
//! `UPDATE_EXPECT=1` writes them anew; the diff is read, then committed. Below a screen in colour a
//! letter for each cell says how it is drawn.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use placer_engine::claims::{
    Caller, Claim, ClaimId, Origin, Owner, OwnerProcess, Principal, ProcessId, Promise, Seen,
};
use placer_engine::policy::numad::Version;
use placer_engine::{Bytes, Charges, CpuShare, HostParts, NodeId, Request, Snapshot, SysRoot};
use proptest::prelude::*;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;
use ratatui::style::{Color, Modifier, Style};

use crate::answer::Choice;
use crate::draw::draw;
use crate::look::Look;
use crate::machine::{scratch, sixty_four};
use crate::model::{Around, Event, Key, Mode, Model, Order};

fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn claim(id: u32, pid: Option<u32>, promised: &[(u32, u64)], resident: u64) -> Claim {
    let promise = |&(node, mib): &(u32, u64)| Promise {
        node: NodeId(node),
        memory: Bytes::new(mib << 20),
        cpus: CpuShare::from_hundredths(50),
    };
    let at = placer_engine::Instant::from_centiseconds(100);
    Claim {
        id: ClaimId(id),
        boot: "a boot".to_owned(),
        owner: match pid {
            Some(pid) => Owner::Process(ProcessId { pid_namespace: 1, pid, start: 7 }),
            None => Owner::Hold { until: at },
        },
        caller: Caller::default(),
        principal: Principal::Host,
        nonce: None,
        origin: Origin::Asked,
        made: at,
        cpus: CpuShare::from_hundredths(150),
        memory: Bytes::new(promised.iter().map(|(_, mib)| mib << 20).sum()),
        page: None,
        promised: promised.iter().map(promise).collect(),
        seen: pid.map(|_| Seen { at, resident: Bytes::new(resident << 20), ..Seen::default() }),
        checked: None,
        pinned: Default::default(),
        roaming: Default::default(),
        within: Default::default(),
    }
}

fn runs(program: &str) -> OwnerProcess {
    OwnerProcess { program: Some(program.to_owned()), cpus: None, balanced: None }
}

/// Three guests: one where it should be, one that is elsewhere and has a wicked name, and a hold.
fn guests() -> (Around, Charges) {
    let mut around = Around::default();
    let claims = vec![
        claim(1, Some(4711), &[(0, 60), (1, 40)], 80),
        claim(2, Some(815), &[(1, 30)], 30),
        claim(3, None, &[(0, 20)], 0),
    ];
    around.owners.insert(ClaimId(1), runs("qemu-system-x86"));
    around.owners.insert(ClaimId(2), runs("\u{1b}[2J\u{202e}evil\n\u{9b}31m"));
    around.placed.insert(ClaimId(1), vec![(NodeId(0), Bytes::new(50 << 20))]);
    around.placed.insert(
        ClaimId(2),
        vec![(NodeId(0), Bytes::new(20 << 20)), (NodeId(1), Bytes::new(10 << 20))],
    );
    around.claims = Some(claims.into_iter().map(Arc::new).collect());
    let mut charges = Charges::default();
    for (node, mib) in [(0, 40), (1, 20)] {
        charges.of_mut(NodeId(node)).add(Bytes::new(mib << 20), None);
        charges.of_mut(NodeId(node)).cpus = CpuShare::from_hundredths(50);
    }
    (around, charges)
}

fn model(root: &SysRoot, name: &str, with_guests: bool, size: (u16, u16)) -> Model {
    let snapshot = Snapshot::take(root, Duration::ZERO).expect("a good fixture");
    let (mut around, charges) = if with_guests { guests() } else { <_>::default() };
    around.claims.get_or_insert_default();
    around.parts = HostParts::read(root, snapshot.topology());
    let snapshot = Arc::new(snapshot.with_charges(charges));
    let request = Request::new(CpuShare::ZERO, Bytes::ZERO);
    let choice = Choice { request, numad: Version::V2025 };
    Model::new(name.to_owned(), snapshot, Arc::new(around), choice, "", size)
}

fn fixture(name: &str, size: (u16, u16)) -> Model {
    let root = SysRoot::at(project().join("sysfs-fixtures").join(name));
    model(&root, name, name == "two-nodes-busy", size)
}

/// A node of four caches: a guest is bound to one, another owns CPUs of the next. Read 24 times more.
fn with_caches() -> Model {
    let dir = scratch();
    let copy = |name: &str| {
        let from = project().join("sysfs-fixtures").join(name);
        let copied = std::process::Command::new("cp").arg("-R").arg(from).arg(dir.path()).status();
        assert!(copied.expect("cp").success());
        dir.path().join(name)
    };
    let (busy, idle) = (copy("caches-4-busy"), copy("caches-4"));
    let mut model = model(&SysRoot::at(&busy), "caches-4-busy", false, (80, 24));
    let list = |list: &str| list.parse().expect("CPUs");
    let (mut bound, mut owns) =
        (claim(1, Some(4711), &[(0, 60)], 60), claim(2, Some(815), &[(0, 30)], 30));
    bound.roaming = list("0-3");
    owns.pinned = list("8,10");
    let mut around = Around { parts: model.around.parts.clone(), ..Around::default() };
    around.owners.insert(ClaimId(1), runs("qemu-system-x86"));
    around.claims = Some(vec![Arc::new(bound), Arc::new(owns)]);
    model.update(Event::Around(Arc::new(around)));
    for second in 1..=24_u64 {
        let root = if second % 8 < 5 { &busy } else { &idle };
        std::fs::write(
            root.join("clock"),
            format!(
                "{} 200
",
                9000 + second * 100
            ),
        )
        .expect("a clock");
        let snapshot = Snapshot::take(&SysRoot::at(root), Duration::ZERO).expect("a good fixture");
        model.update(Event::Host(Arc::new(snapshot), None));
    }
    model
}

fn large(size: (u16, u16)) -> Model {
    let dir = scratch();
    sixty_four(dir.path());
    model(&SysRoot::at(dir.path()), "64 nodes", false, size)
}

/// Presses what can be typed, and keys by name: `<down>`.
fn press(model: &mut Model, keys: &str) -> Option<Order> {
    let mut order = None;
    let mut rest = keys;
    while let Some(c) = rest.chars().next() {
        let named = [
            ("<enter>", Key::Enter),
            ("<esc>", Key::Escape),
            ("<down>", Key::Down),
            ("<right>", Key::Right),
            ("<end>", Key::End),
            ("<tab>", Key::Tab),
        ];
        let named = named.iter().find(|(name, _)| rest.starts_with(name));
        let (key, len) = named.map_or((Key::Char(c), c.len_utf8()), |(n, key)| (*key, n.len()));
        rest = &rest[len..];
        order = model.update(Event::Key(key)).or(order);
    }
    order
}

fn screen(model: &Model, look: Look) -> Buffer {
    let (columns, lines) = model.size;
    let mut terminal = Terminal::new(TestBackend::new(columns, lines)).expect("a terminal");
    let drawn = terminal.draw(|frame| draw(model, look, frame.area(), frame.buffer_mut()));
    drawn.expect("drawn").buffer.clone()
}

fn text(buffer: &Buffer) -> String {
    lines(buffer, |cell| cell.symbol().to_owned())
}

fn lines(buffer: &Buffer, of: impl Fn(&ratatui::buffer::Cell) -> String) -> String {
    let width = usize::from(buffer.area.width.max(1));
    let line = |cells: &[ratatui::buffer::Cell]| {
        let line: String = cells.iter().map(&of).collect();
        format!("{}\n", line.trim_end())
    };
    buffer.content().chunks(width).map(line).collect()
}

/// A letter for each cell: its colour, upper case where it is bold, `-` where it is faint.
fn styles(buffer: &Buffer) -> String {
    lines(buffer, |cell| {
        let style: Style = cell.style();
        let has = |modifier| style.add_modifier.contains(modifier);
        let letter = match style.fg {
            _ if has(Modifier::REVERSED) => '#',
            Some(Color::Blue) => 'b',
            Some(Color::Magenta) => 'm',
            Some(Color::Cyan) => 'c',
            Some(Color::Green) => 'g',
            Some(Color::Yellow) => 'y',
            Some(Color::Red) => 'r',
            _ if has(Modifier::DIM) => '-',
            _ if has(Modifier::BOLD) => 'w',
            _ if cell.symbol() == " " => ' ',
            _ => '.',
        };
        let letter = if has(Modifier::BOLD) { letter.to_ascii_uppercase() } else { letter };
        letter.to_string()
    })
}

#[test]
fn screens_are_as_expected() {
    let color = Look::of("C.UTF-8", "xterm", false);
    let plain = Look::of("C.UTF-8", "xterm", true);
    let ascii = Look::of("C", "xterm", true);
    let (small, wide) = ((80, 24), (160, 50));
    let read = with_caches();
    let caches = |size: (u16, u16)| {
        let mut model = read.clone();
        model.update(Event::Size(size.0, size.1));
        model
    };
    let cases: Vec<(&str, Model, &str, Look)> = vec![
        ("one", fixture("one-node-busy", small), "", color),
        ("one-asked", fixture("one-node-busy", small), "1:100", plain),
        ("two", fixture("two-nodes-busy", small), "", color),
        ("two-asked", fixture("two-nodes-busy", small), "2:300<enter><right><right>", ascii),
        ("two-idle", fixture("two-nodes", small), "2:300<enter>", plain),
        ("two-wide", fixture("two-nodes-busy", wide), "2:300<enter>", plain),
        ("eight", fixture("uneven-8-busy", small), "2:200<enter>", color),
        ("eight-refused", fixture("uneven-8-busy", small), "3:500MB", ascii),
        ("eight-unfit", fixture("uneven-8-busy", small), "3:64G<enter>", plain),
        ("eight-wide", fixture("uneven-8-busy", wide), "2:200<enter>s s", color),
        ("caches", caches(small), "", color),
        ("caches-list", caches(small), "c", plain),
        ("caches-ascii", caches(small), "4:64<enter>", ascii),
        ("caches-two", fixture("caches-2x2-busy", small), "c", plain),
        ("caches-wide", caches(wide), "4:64<enter>c", plain),
        ("hybrid", fixture("hybrid-3", small), "c", plain),
        ("pages", fixture("hugepages-4", small), "", plain),
        ("ring-asked", fixture("ring-4-busy", small), "2:200", plain),
        ("help", fixture("hugepages-4", small), "?", ascii),
        ("notes", fixture("uneven-8-busy", small), "n", plain),
        ("many", large(small), "24:40G<enter>", color),
        ("many-end", large(small), "<end>", ascii),
        ("many-filtered", large(small), "/8-11<enter>s", plain),
        ("many-packages", large(small), "p", plain),
        ("many-wide", large((170, 60)), "24:40G<enter>", plain),
        ("small", fixture("one-node", (60, 20)), "", plain),
    ];
    let mut wrong = Vec::new();
    for (name, mut model, keys, look) in cases {
        press(&mut model, keys);
        let buffer = screen(&model, look);
        let mut found = text(&buffer);
        if look.color {
            found += &format!("\nstyles:\n{}", styles(&buffer));
        }
        let path: PathBuf = project().join(format!("src/bin/placer-top/screens/{name}.txt"));
        if std::env::var_os("UPDATE_EXPECT").is_some() {
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("made");
            std::fs::write(&path, &found).expect("written");
        }
        let expected = std::fs::read_to_string(&path).unwrap_or_default();
        if expected != found {
            wrong.push(format!("{name}\nexpected:\n{expected}\nfound:\n{found}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_request_is_answered_while_it_is_typed() {
    let mut model = fixture("ring-4-busy", (80, 24));
    let nodes = |model: &Model| model.answer.advised().map(|a| a.advice.nodes.to_string());
    press(&mut model, "2:");
    assert_eq!(nodes(&model), None);
    press(&mut model, "200");
    assert_eq!((nodes(&model).as_deref(), model.mode), (Some("0"), Mode::Request));
    press(&mut model, "<enter>x");
    assert_eq!((nodes(&model), model.mode), (None, Mode::Browse));
}

#[test]
fn keys_ask_the_end_for_what_only_it_can_do() {
    let mut model = fixture("one-node", (80, 24));
    assert_eq!(press(&mut model, "q"), Some(Order::Quit));
    assert_eq!(model.update(Event::Key(Key::Control('z'))), Some(Order::Suspend));
    // Typed, a q is a letter.
    assert_eq!(press(&mut model, "/q<esc>"), None);
    assert_eq!(press(&mut model, "r-2<enter>"), Some(Order::Record("placer-host-2".into())));
    assert_eq!(press(&mut model, "r<enter>"), None, "one at a time");
    model.update(Event::Recorded(Err("no room".to_owned())));
    assert!(text(&screen(&model, Look::of("C", "", true))).contains("no room"));
}

#[test]
fn what_is_paused_stays() {
    let mut model = fixture("one-node", (80, 24));
    let other = fixture("ring-4", (80, 24)).snapshot;
    press(&mut model, " ");
    model.update(Event::Host(Arc::clone(&other), None));
    assert_eq!(model.items.len(), 1);
    press(&mut model, " ");
    model.update(Event::Host(other, Some("gone".to_owned())));
    assert_eq!(model.items.len(), 4);
    assert_eq!(model.notes()[0], "the host cannot be read: gone");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Whatever is pressed, on whatever terminal: it is drawn, and nothing that a terminal acts on.
    #[test]
    fn anything_is_drawn(
        keys in "([ -~]|<(enter|esc|down|right|end|tab)>|[\u{0}-\u{1f}\u{80}-\u{9f}\u{202e}]){0,30}",
        size in (0u16..200, 0u16..70),
        ascii in any::<bool>(),
    ) {
        let mut model = fixture("two-nodes-busy", (80, 24));
        press(&mut model, &keys);
        model.update(Event::Size(size.0, size.1));
        press(&mut model, &keys);
        let look = Look::of(if ascii { "C" } else { "UTF-8" }, "xterm", false);
        for cell in screen(&model, look).content() {
            prop_assert!(!cell.symbol().contains(char::is_control), "{:?}", cell.symbol());
        }
    }
}

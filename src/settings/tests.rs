use std::path::Path;

use clap::FromArgMatches;
use proptest::prelude::*;

use super::daemon::CpuPart;
use super::*;
use crate::args::{self, Args, Command};
use crate::error_chain::chain;

/// The file that is shipped: every setting with its built-in value, behind a "#".
const SHIPPED: &str = include_str!("placer.toml");

fn parse(text: &str) -> Result<Settings, String> {
    Settings::parse(text).map_err(|fault| chain(&fault.in_file(Path::new("f"))))
}

/// Returns the shipped file with every setting in force.
fn in_force() -> String {
    let active = |line: &str| match line.strip_prefix('#') {
        Some(rest) if rest.starts_with(|c: char| c.is_ascii_lowercase()) => rest.to_owned(),
        _ => line.to_owned(),
    };
    SHIPPED.lines().map(|line| active(line) + "\n").collect()
}

/// The lines `key = value` of a file, with their sections.
fn keys(text: &str) -> Vec<(String, String)> {
    let mut section = String::new();
    let mut keys = Vec::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix('[') {
            section = name.trim_end_matches(']').to_owned();
        } else if let Some((key, _)) = line.split_once(" = ").filter(|_| !line.starts_with('#')) {
            keys.push((section.clone(), key.to_owned()));
        }
    }
    keys
}

#[test]
fn the_shipped_file_holds_every_setting_and_changes_nothing() {
    assert_eq!(parse(SHIPPED), Ok(Settings::default()));
    assert_eq!(parse(&in_force()), Ok(Settings::default()));
    assert_eq!(parse(""), Ok(Settings::default()));
    let shipped = keys(&in_force());
    for section in ["advise", "claims", "numad", "runtime", "manage", "daemon"] {
        let error =
            parse(&format!("[{section}]\n\"no such key at all\" = 1")).expect_err("refused");
        let known = error.split_once("there are ").expect("the keys are listed").1;
        let of_section = shipped.iter().filter(|(of, _)| of == section);
        let of_section: Vec<&str> = of_section.map(|(_, key)| key.as_str()).collect();
        assert_eq!(known.split(", ").collect::<Vec<_>>(), of_section, "{section}");
    }
    assert!(SHIPPED.lines().all(|line| line.len() <= 100));
}

#[test]
fn the_defaults_of_flags_and_settings_are_the_same() {
    let mut command = args::command();
    // Flags are made when their command is named: now, so that no variable here counts.
    command.build();
    let matches = command
        .mut_subcommands(|command| {
            command.mut_args(|arg| arg.env(clap::builder::Resettable::Reset))
        })
        .get_matches_from(["placer", "advise", "4"]);
    let by_flags = Args::from_arg_matches(&matches).expect("good flags");
    let mut filled = Args::from_arg_matches(&matches).expect("good flags");
    Settings::default().fill(&mut filled, &matches);
    assert_eq!(format!("{by_flags:?}"), format!("{filled:?}"));

    let mut other = Args::from_arg_matches(&matches).expect("good flags");
    parse(OTHER).expect("good settings").fill(&mut other, &matches);
    let Command::Advise(mut other) = other.command else { unreachable!("given above") };
    assert_eq!((other.choice.policy, other.choice.prefer), (PolicyName::Numad, PreferName::Pack));
    assert_eq!(other.host.window, Duration::from_secs(2));
    assert_eq!(other.choice.within.take().map(|nodes| nodes.to_string()).as_deref(), Some("0-1,3"));
    assert_eq!((other.choice.memory_bound, other.choice.smt_percent), (1.0, 50));
    assert_eq!((other.choice.effort, other.hold), (Some(9000), Some(Duration::from_secs(60))));
    let caches = (other.choice.cache, other.choice.cache_penalty, other.choice.cores);
    assert_eq!(caches, (CacheName::Largest, 35, CoresName::Fast));
    assert!(other.choice.machine_wide == Some(true) && other.strict);
}

/// Every setting with another value, in other spellings that TOML has.
const OTHER: &str = r#"
claims = { overcommit = 2, "hold" = '1m' }
[advise]
policy = "numad"
window = "2s"
within = "3,0-1"
memory-bound = 1
smt-percent = 0x32
prefer = "pack"
cache = "largest"
cache-penalty = 35
cores = "fast"
effort = 9_000
machine-wide = true
hold = "1m"
strict = true # a comment
[numad]
version = "2015"
policy = "best"
hold = "adopt"
pages = "1G"
window = "2s"
[daemon]
interval = "1s"
clients = 9
clients-per-user = 8
idle = "1m"
user-claims = 0
user-memory = "64G"
user-cpus = "2.5"
user-hold = "1s"
queue = false
metrics = "[::1]:9464"
log = "debug"
[runtime]
real = "/usr/libexec/crun"
place = "limited"
strict = true
[manage]
enabled = true
guests = ["uid:1000", "cgroup:/machine.slice/"]
except = ["program:postgres", "guest:db1", "unit:db.service"]
interval = "30s"
gain = 5
least-gain = 4
rest = "1h"
guests-per-plan = 2
memory-per-plan = "16G"
rate = "64M"
pressure = 40
"#;

#[test]
fn every_setting_can_be_changed() {
    let set = parse(OTHER).expect("good settings");
    let twice = Overcommit::new(2.0).expect("a factor");
    assert_eq!(set.claims, Claims { overcommit: twice, hold: Duration::from_secs(60) });
    let pages = Some(Bytes::new(1 << 30));
    let window = Some(Duration::from_secs(2));
    assert_eq!(
        set.numad,
        Numad {
            version: NumadVersion::V2015,
            policy: PolicyName::Best,
            hold: Hold::Adopt,
            pages,
            window
        }
    );
    let daemon = Daemon {
        interval: Duration::from_secs(1),
        clients: 9,
        clients_per_user: 8,
        idle: Duration::from_secs(60),
        user_claims: 0,
        user_memory: Part::Amount(Bytes::new(64 << 30)),
        user_cpus: CpuPart::Amount(placer_engine::CpuShare::from_hundredths(250)),
        user_hold: Duration::from_secs(1),
        queue: false,
        metrics: "[::1]:9464".parse().ok(),
        log: Level::Debug,
    };
    assert_eq!(set.daemon, daemon);
    let real = "/usr/libexec/crun".to_owned();
    assert_eq!(set.runtime, Runtime { real, place: PlaceName::Limited, strict: true });
    let manage = Manage {
        enabled: true,
        guests: Some(vec![Selector::Uid(1000), Selector::Cgroup("/machine.slice".to_owned())]),
        except: vec![
            Selector::Program("postgres".to_owned()),
            Selector::Guest("db1".to_owned()),
            Selector::Unit("db.service".to_owned()),
        ],
        interval: Duration::from_secs(30),
        gain: 5.0,
        least_gain: 4,
        rest: Duration::from_secs(3_600),
        guests_per_plan: 2,
        memory_per_plan: Bytes::new(16 << 30),
        rate: Bytes::new(64 << 20),
        pressure: 40,
    };
    assert_eq!(set.manage, manage);
    // The claims stand in one line.
    assert_eq!(keys(OTHER).len() + 1, keys(&in_force()).len());
}

/// A faulty text, and what is said about it; where that ends with a colon the rest is the parser's.
const FAULTS: &[(&str, &str)] = &[
    (
        "[advice]",
        "f:1: expected a section that is known, found \"advice\"; did you mean \"advise\"?",
    ),
    (
        "policy = 'best'",
        "f:1: expected a section that is known, found \"policy\"; there are advise, claims, numad, \
         runtime, manage, daemon",
    ),
    (
        "\n\n[advise]\npolciy = 1",
        "f:4: [advise] expected a key that is known, found \"polciy\"; did you mean \"policy\"?",
    ),
    (
        "[claims]\n\"\\u001b[2J\" = 1",
        "f:2: [claims] expected a key that is known, found \"\\u{1b}[2J\"; there are overcommit, \
         hold",
    ),
    ("[advise]\n'\u{1b}[2J' = 1", "f:2:"),
    ("advise = 3", "f:1: advise: expected a section [advise], found 3"),
    ("[[advise]]", "f:1: advise: expected a section [advise], found [[advise]]"),
    (
        "[advise]\npolicy = 3",
        "f:2: [advise] policy: expected \"best\", \"numad\", \"numad-2015\" or \
         \"numad-2025\", found 3",
    ),
    (
        "[advise]\npolicy = 'bset' # so",
        "f:2: [advise] policy: expected \"best\", \"numad\", \"numad-2015\" or \
         \"numad-2025\", found 'bset'",
    ),
    (
        "[advise]\nwindow = 100",
        "f:2: [advise] window: expected a duration in quotes, as in \"100ms\", found 100",
    ),
    (
        "[advise]\nwithin = '3-'",
        "f:2: [advise] within: expected a list of nodes in quotes, as in \"0-1,3\", or \"all\", found '3-'",
    ),
    (
        "[advise]\nmemory-bound = nan",
        "f:2: [advise] memory-bound: expected a number from 0 to 1, found nan",
    ),
    (
        "[advise]\nmemory-bound = -1",
        "f:2: [advise] memory-bound: expected a number from 0 to 1, found -1",
    ),
    (
        "[advise]\nsmt-percent = 101",
        "f:2: [advise] smt-percent: expected a whole number from 0 to 100, found 101",
    ),
    (
        "[advise]\nsmt-percent = 1e1",
        "f:2: [advise] smt-percent: expected a whole number from 0 to 100, found 1e1",
    ),
    (
        "[advise]\neffort = 99999999999999999999",
        "f:2: [advise] effort: expected a number of steps, or \"auto\", found 99999999999999999999",
    ),
    ("[advise]\nstrict = 'yes'", "f:2: [advise] strict: expected true or false, found 'yes'"),
    (
        "[claims]\novercommit = 0.5",
        "f:2: [claims] overcommit: expected a number from 1 to 100, found 0.5",
    ),
    (
        "[claims]\nhold = '0'",
        "f:2: [claims] hold: expected a duration of more than 0 and at most a day in quotes, as in \
         \"30s\", found '0'",
    ),
    (
        "[numad]\nversion = 2015",
        "f:2: [numad] version: expected \"auto\", \"2015\" or \"2025\", found 2015",
    ),
    (
        "[numad]\npolicy = 'numad-2015'",
        "f:2: [numad] policy: expected \"numad\" or \"best\", found 'numad-2015'",
    ),
    ("[numad]\nhold = true", "f:2: [numad] hold: expected \"none\" or \"adopt\", found true"),
    (
        "[numad]\npolicy = 'best'\npages = '3M'",
        "f:3: [numad] pages: expected a size of huge pages in quotes, as in \"2M\", or \"none\", found '3M'",
    ),
    (
        "[numad]\npages = '2M'",
        "f:2: [numad] pages: expected policy = \"best\" beside it: numad's rules do not support \
         huge pages",
    ),
    (
        "[daemon]\nuser-memory = '50 %'",
        "f:2: [daemon] user-memory: expected a part or an amount of memory in quotes, as in \
         \"50%\" \
         or \"8G\", found '50 %'",
    ),
    (
        "[daemon]\nmetrics = '0.0.0.0:9464'",
        "f:2: [daemon] metrics: expected an address of this machine with a port in quotes, as in \
         \"127.0.0.1:9464\", or \"off\", found '0.0.0.0:9464'",
    ),
    (
        "[daemon]\nclients = 0",
        "f:2: [daemon] clients: expected a whole number from 1 to 4096, found 0",
    ),
    ("[claims]\nhold = '1s'\nhold = '2s'", "f:3:"),
    ("[claims\nhold", "f:1:"),
    ("[claims]\nhold =", "f:2:"),
];

#[test]
fn faults_name_the_line_what_was_seen_and_what_was_wanted() {
    for (text, fault) in FAULTS {
        let found = parse(text).expect_err(text);
        let expected = format!("cannot read the settings: {fault}");
        let whole = !fault.ends_with(':');
        assert!(found.starts_with(&expected), "{text:?}\n{found}\n{expected}");
        assert!(!whole || found == expected, "{text:?}\n{found}\n{expected}");
        assert!(!found.contains(char::is_control), "{text:?}\n{found}");
    }
}

proptest! {
    #[test]
    fn any_text_is_answered(text in any::<String>()) {
        let _ = parse(&text);
    }

    #[test]
    fn any_bytes_are_answered(bytes in any::<Vec<u8>>(), good in any::<bool>()) {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let text = if good { in_force().into_bytes() } else { Vec::new() };
        std::fs::write(file.path(), [text, bytes].concat()).expect("written");
        if let Err(error) = Settings::read(Some(file.path())) {
            prop_assert!(!chain(&error).contains(char::is_control));
        }
    }

    #[test]
    fn near_settings_are_answered(
        text in "((\\[(advise|claims|numad|daemon|x)\\]?|policy|window|hold|[\\[\\]{}=\"'#,. \
            \\n]|[0-9a-f\"_+-]{1,4})[ \\n]?){0,30}",
    ) {
        let _ = parse(&text);
    }

    /// What is damaged anywhere is refused or understood, and told in one line.
    #[test]
    fn damaged_settings_are_answered(at in 0usize..9999, byte in any::<u8>(), cut in any::<bool>()) {
        let mut bytes = in_force().into_bytes();
        let at = at % bytes.len();
        if cut {
            bytes.truncate(at);
        } else {
            bytes[at] = byte;
        }
        if let Err(said) = parse(&String::from_utf8_lossy(&bytes)) {
            prop_assert!(said.starts_with("cannot read the settings: f:"), "{}", said);
            prop_assert!(!said.contains(char::is_control), "{}", said);
        }
    }
}

#[test]
fn large_settings_are_answered_within_bounds() {
    let pieces =
        ["[", "{a=", "a.", "a=1\n", "[a]\n", "[[x]]\n", "[[x.y]]\n", "\"", "'''", "#", "=", "\0"];
    for piece in pieces {
        let text = piece.repeat((1 << 20) / piece.len());
        for text in [format!("x = {text}"), text] {
            let start = std::time::Instant::now();
            let _ = parse(&text);
            eprintln!("{piece:?}: {:?}", start.elapsed());
        }
    }
    let many: String = (0..100_000).map(|n| format!("k{n} = {n}\n")).collect();
    assert!(parse(&many).is_err());
}

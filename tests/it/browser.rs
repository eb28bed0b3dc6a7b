//! Pictures as a browser draws them, light and dark: no text leaves its box, lies over another or is
//! hard to read; the page says nothing to the console and asks nobody.

#![allow(clippy::panic, reason = "a test that cannot go on says why")]

use crate::common;
use needs::needs;
use testkit::chromium;
use testkit::machine;

use std::path::Path;

use chromium::Chromium;
use common::{fixture, placer, placer_on, run, text};
use machine::{Machine, Qemu, put_file, scratch};

/// Looks at each text of each picture.
const CHECK: &str = include_str!("browser/check.js");

/// A host with more guests than are listed, long names among them, and nodes that all have claims.
fn crowded(dir: &Path, nodes: u32) {
    let mut machine = Machine::new();
    for node in 0..nodes {
        machine = machine.node(node, node * 8..node * 8 + 8, 64 << 20, 40 << 20);
    }
    machine.write(dir);
    for number in 0..20 {
        Qemu {
            pid: 4_194_000 + number,
            program: if number % 3 == 0 {
                "qemu:a-very-long-name-of-a-guest-that-nobody-abbreviates"
            } else {
                "qemu-kvm"
            },
            cpus: 1 + number * 7,
            mib: (1024 + u64::from(number) * 333, u64::from(number) * 50),
            node: number % nodes,
            allowed: "0",
        }
        .write(dir);
    }
}

#[needs(chromium)]
#[test]
fn no_text_leaves_its_box_or_lies_over_another() {
    let chromium = Chromium::find();
    let dir = scratch();
    let made = |name: &str| dir.path().join(name);
    machine::large().write(&made("many"));
    for nodes in [1, 2, 5, 17] {
        crowded(&made(&format!("crowded-{nodes}")), nodes);
    }
    let roots = [
        made("crowded-1"),
        made("crowded-2"),
        made("crowded-5"),
        made("crowded-17"),
        fixture("one-node-busy"),
        fixture("two-nodes-busy"),
        fixture("uneven-8-busy"),
        fixture("pci-4"),
        fixture("sixteen"),
        made("many"),
    ];
    let mut page = "<!doctype html><meta charset=utf-8><body><pre id=result></pre>".to_owned();
    for root in &roots {
        let id = root.file_name().expect("a name").to_string_lossy().into_owned();
        for args in [
            &["show", "--svg", "-"][..],
            &["advise", "4:500", "--machine-wide", "--explain", "--svg", "-"],
        ] {
            // A hold beside the guests.
            let state = dir.path().join("state");
            let on = |args: &[&str]| {
                run(placer().args(args).env("PLACER_ROOT", root).env("PLACER_STATE_DIR", &state))
            };
            on(&["advise", "1:100", "--machine-wide", "--hold", "10m"]);
            let svg = text(&on(args).stdout);
            assert!(svg.starts_with("<svg"), "{id}");
            page += &format!("<div class=host id={id}>{svg}</div>");
        }
    }
    page += &format!("<script>{CHECK}</script>");
    put_file(dir.path(), "check.html", &page);
    // The page that is shipped, as it is: it may say nothing to the console and ask nobody.
    let html = dir.path().join("host.html");
    assert!(
        placer_on(&fixture("pci-4"), &["show", "--html", html.to_str().expect("plain")])
            .status
            .success()
    );
    let mut found = Vec::new();
    for scheme in ["0", "1"] {
        let browse = |name: &str| {
            let light = format!("--blink-settings=preferredColorScheme={scheme}");
            chromium.load(&dir.path().join(name), &[&light])
        };
        let checked = browse("check.html");
        assert!(!checked.log.contains("CONSOLE"), "{}", checked.log);
        let dom = checked.dom;
        let result =
            dom.split("<pre id=\"result\">").nth(1).and_then(|rest| rest.split("</pre>").next());
        let result = result.unwrap_or_else(|| panic!("no result: {dom:.300}"));
        println!("{result}");
        found.push(result.to_owned());
        let shipped = browse("host.html");
        assert!(shipped.dom.contains("id=\"nodes\""));
        assert!(!shipped.log.contains("CONSOLE"), "{}", shipped.log);
        assert_eq!(shipped.asked, [].into());
    }
    let good = |result: &String| result.contains(" wrong 0 ") && !result.starts_with("texts 0 ");
    assert!(found.iter().all(good), "{found:#?}");
}

/// What the tests above do not find could be found.
#[needs(chromium)]
#[test]
fn a_page_that_asks_and_complains_is_seen() {
    let chromium = Chromium::find();
    let dir = scratch();
    let asks = "<img src='http://placer.invalid/x.png'><script>console.error('no')</script>";
    put_file(dir.path(), "asks.html", asks);
    let seen = chromium.load(&dir.path().join("asks.html"), &[]);
    assert_eq!(seen.asked, ["http://placer.invalid/x.png".to_owned()].into());
    assert!(seen.log.contains("CONSOLE"), "{}", seen.log);
}

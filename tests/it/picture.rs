//! The host in text, SVG and HTML: the same numbers as `--json`, whatever names say, in bounds.

#![allow(clippy::panic, reason = "a test that cannot go on says why")]

use crate::common;
use testkit::machine;

use std::path::Path;
use std::process::Command;

use common::{fixture, fixtures, json, placer, placer_on, project, run, text};
use machine::{Machine, Qemu, put_file, scratch};
use serde_json::Value;

/// Writes bytes as people read them, by its own arithmetic.
fn human(bytes: &Value) -> String {
    let Some(bytes) = bytes.as_u64() else { return "?".to_owned() };
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut shift = 10;
    for unit in ["KiB", "MiB", "GiB", "TiB"] {
        let tenths = (u128::from(bytes) * 10 + (1 << (shift - 1))) >> shift;
        if tenths < 10_240 {
            return format!("{}.{} {unit}", tenths / 10, tenths % 10);
        }
        shift += 10;
    }
    panic!("no host has {bytes} bytes")
}

/// Returns what the element of a name says in a picture.
fn told(svg: &str, name: &str) -> Option<String> {
    let (_, rest) = svg.split_once(&format!("data-is=\"{name}\">"))?;
    Some(rest.split('<').next()?.to_owned())
}

#[test]
fn text_svg_and_html_say_what_json_says() {
    let mut count = 0;
    for name in fixtures() {
        let root = fixture(&name);
        let shown = json(&placer_on(&root, &["show", "--json"]));
        let table = text(&placer_on(&root, &["show"]).stdout);
        let svg = text(&placer_on(&root, &["show", "--svg", "-"]).stdout);
        let html = text(&placer_on(&root, &["show", "--html", "-"]).stdout);
        for node in shown["nodes"].as_array().expect("nodes") {
            let id = node["id"].to_string();
            let cpus = placer_engine::parse::list::parse::<placer_engine::CpuId>(
                node["cpus"].as_str().expect("a list").as_bytes(),
            );
            let cpus = cpus.expect("a list").len();
            let idle =
                node["cpus_free"].as_f64().map_or("?".to_owned(), |idle| format!("{idle:.2}"));
            let (free, total) = (human(&node["memory_free"]), human(&node["memory_total"]));

            let line = table
                .lines()
                .find(|line| line.starts_with(&format!("{id:>6} ")) && line.contains('/'));
            let line = line.unwrap_or_else(|| panic!("{name}: node {id} is not in\n{table}"));
            let figures = format!(" {free:>10} {total:>10} ");
            assert!(
                line.contains(&format!(" {idle}/{cpus} ")) && line.contains(&figures),
                "{name}: {line}"
            );

            let noun = if cpus == 1 { "CPU" } else { "CPUs" };
            if cpus > 0 {
                let said = format!("{idle} of {cpus} {noun} idle");
                assert_eq!(told(&svg, &format!("node{id}.idle")), Some(said), "{name}");
            }
            if node["memory_total"] != 0 {
                let said = [format!("{free} free"), format!("of {total}")].map(Some);
                let found = ["free", "total"].map(|what| told(&svg, &format!("node{id}.{what}")));
                assert_eq!(found, said, "{name} node {id}");
            }
            let row = format!(
                "<tr><th scope=\"row\">{id}</th><td>{idle}</td><td>{cpus}</td><td>{free}</td><td>{}</td><td>{total}</td><td>{}</td>",
                human(&node["memory_cached"]),
                human(&node["claimed"])
            );
            assert!(html.contains(&row), "{name}: no {row}");
            count += 1;
        }
        let ids = shown["distances"]["nodes"].as_array().cloned().unwrap_or_default();
        for (row, from) in ids.iter().enumerate().filter(|_| ids.len() > 1) {
            for (column, to) in ids.iter().enumerate() {
                let distance = shown["distances"]["matrix"][row][column].to_string();
                let found = told(&svg, &format!("distance{from}-{to}"));
                assert_eq!(found, Some(distance), "{name} {from} {to}");
            }
        }
        for odd in shown["odd"].as_array().expect("a list") {
            let sentence = odd["text"].as_str().expect("a text").replace(' ', "");
            assert!(table.replace([' ', '\n'], "").contains(&sentence), "{name}: {sentence}");
        }
    }
    assert!(count > 50, "{count}");
}

#[test]
fn the_readmes_pictures_are_what_the_program_draws() {
    let drawn = scratch();
    let mut make = Command::new(project().join("docs/make-pictures"));
    let output = run(make.arg(drawn.path()).env("PLACER", env!("CARGO_BIN_EXE_placer")));
    assert!(output.status.success(), "{}", text(&output.stderr));
    let pictures = |dir: &Path| -> Vec<(String, String)> {
        let entries = std::fs::read_dir(dir).expect("a directory").map(|entry| entry.expect("one"));
        let mut all: Vec<_> = entries
            .filter(|entry| entry.path().extension().is_some_and(|is| is == "svg"))
            .map(|entry| {
                let name = entry.file_name().into_string().expect("a plain name");
                (name, std::fs::read_to_string(entry.path()).expect("text"))
            })
            .collect();
        all.sort();
        all
    };
    let (committed, made) =
        (pictures(&project().join("docs/src/pictures")), pictures(drawn.path()));
    let names =
        |of: &[(String, String)]| of.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&committed), names(&made));
    let read = |path: &str| std::fs::read_to_string(project().join(path)).expect("a page");
    let pages = read("README.md") + &read("docs/src/pictures.md");
    for ((name, committed), (_, made)) in committed.iter().zip(&made) {
        assert!(committed == made, "{name} is another picture: run `make pictures`, look, commit");
        assert!(pages.contains(&format!("pictures/{name})")), "{name} is shown nowhere");
    }
    assert!(made.len() > 1, "{}", made.len());
}

#[test]
fn devices_without_a_node_are_drawn_too() {
    let svg = text(&placer_on(&fixture("ring-4-busy"), &["show", "--svg", "-"]).stdout);
    for piece in [">whose node the firmware does not report<", ">vda<"] {
        assert!(svg.contains(piece), "{piece}");
    }
}

#[test]
fn a_host_of_64_nodes_and_1024_cpus_is_a_file_below_a_mib() {
    let dir = scratch();
    machine::large().write(dir.path());
    for form in ["--svg", "--html"] {
        let output = placer_on(dir.path(), &["show", form, "-"]);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        // No figure is cut off.
        let whole = text(&output.stdout);
        let figures = whole.split("data-is=\"node").skip(1);
        let cut: Vec<_> =
            figures.filter_map(|f| f.split('<').next()).filter(|f| f.contains('…')).collect();
        assert_eq!(cut, [""; 0]);
        println!("{form}: {} bytes", output.stdout.len());
        assert!(
            (10_000..1 << 20).contains(&output.stdout.len()),
            "{form}: {}",
            output.stdout.len()
        );
    }
}

#[test]
fn names_reach_neither_terminal_nor_page_unescaped() {
    let dir = scratch();
    let root = dir.path().join("</svg><script>alert(1)<\u{202e}\u{1b}[2J");
    Machine::new().node(0, 0..2, 1 << 20, 1 << 19).write(&root);
    put_file(&root, "sys/bus/pci/devices/0000:01:00.0/class", "0x020000\n");
    put_file(&root, "sys/bus/pci/devices/0000:01:00.0/numa_node", "0\n");
    let net = root.join("sys/class/net");
    std::fs::create_dir_all(&net).expect("made");
    use std::os::unix::ffi::OsStrExt;
    let hostile: [&[u8]; 4] = [
        b"\"><script>x<",
        b"\x1b[31mred\x07",
        "\u{202e}gpj.exe\u{200b}".as_bytes(),
        b"bad\xff\xfe",
    ];
    for name in hostile {
        let name = std::ffi::OsStr::from_bytes(name);
        std::os::unix::fs::symlink("../../devices/pci0000:00/0000:01:00.0/net/x", net.join(name))
            .expect("made");
    }
    // A process that calls itself so, in the list of guests and on its node.
    Qemu {
        pid: 4711,
        program: "qemu</text><script>alert(1)</script>)\u{1b}[2J\u{202e}",
        cpus: 1,
        mib: (256, 8),
        node: 0,
        allowed: "0",
    }
    .write(&root);
    for args in [
        &["show"][..],
        &["show", "--svg", "-"],
        &["show", "--html", "-"],
        &["ps"],
        &["show", "--json"],
    ] {
        let output = run(placer()
            .args(args)
            .env("PLACER_ROOT", &root)
            .env("PLACER_STATE_DIR", dir.path().join("state")));
        let shown = text(&output.stdout) + &text(&output.stderr);
        let acts = |c: char| {
            (c.is_control() && c != '\n')
                || ('\u{202a}'..='\u{202e}').contains(&c)
                || c == '\u{200b}'
        };
        assert!(!shown.contains(acts), "{args:?}: {shown:?}");
        assert!(!shown.contains("<script"), "{args:?}: {shown}");
    }
    let svg = text(&placer_on(&root, &["show", "--svg", "-"]).stdout);
    assert!(svg.contains("&lt;script&gt;") && svg.contains("\\u{1b}"), "{svg}");
    // In the page whole, in the picture as much as its column holds.
    let named = "4711 qemu&lt;/text&gt;&lt;script&gt;alert(1)&lt;/script&gt;)\\u{1b}[2J\\u{202e}";
    let html = text(&placer_on(&root, &["show", "--html", "-"]).stdout);
    assert!(html.contains(&format!("<td class=\"w\">{named}</td>")), "{html}");
    assert!(svg.contains(">4711 qemu&lt;/text&gt;&lt;"), "{svg}");
}

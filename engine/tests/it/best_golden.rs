//! The recorded answers, and more of their kind (`BEST_GOLDEN=file`, lines with an `answer`).

#![allow(
    missing_docs,
    clippy::cast_possible_truncation,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test may stop where it stands"
)]

use testkit::best as common;

use common::Ask;
use placer_engine::policy::best::{Node, Prefer, Workspace, solve};
use serde_json::Value;

fn number(value: &Value, name: &str) -> f64 {
    value[name].as_f64().unwrap_or_else(|| panic!("{name} in {value}"))
}

fn ask(line: &Value) -> Ask {
    let nodes = line["nodes"].as_array().expect("nodes");
    Ask {
        nodes: nodes
            .iter()
            .map(|n| Node {
                id: n["id"].as_u64().unwrap() as u32,
                cpus: n["cpus"].as_u64().unwrap() as u32,
                cap: number(n, "cap"),
                idle: number(n, "idle"),
                mem: number(n, "mem"),
                mem_total: number(n, "mem_total"),
            })
            .collect(),
        distances: serde_json::from_value(line["distances"].clone()).expect("distances"),
        cpus: number(&line["request"], "cpus"),
        mem: number(&line["request"], "mem"),
        bound: number(line, "memory_bound"),
        prefer: if line["prefer"] == "pack" { Prefer::Pack } else { Prefer::Room },
    }
}

#[test]
fn every_golden_row_is_answered_alike() {
    let own = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/best.jsonl");
    let path = std::env::var("BEST_GOLDEN").unwrap_or(own.into());
    let text = std::fs::read_to_string(&path).expect("the rows");
    let mut space = Workspace::new();
    let mut rows = 0;
    for line in text.lines() {
        let line: Value = serde_json::from_str(line).expect("a JSON line");
        let ask = ask(&line);
        let want = &line["answer"];
        let host = ask.host();
        let got = solve(&host, &ask.request(), &mut space);
        let nodes: Vec<u32> = serde_json::from_value(want["nodes"].clone()).expect("nodes");
        assert_eq!(got.nodes, nodes, "row {rows}: {line}");
        assert_eq!(got.fits, want["fits"] == true, "row {rows}: {line}");
        if let Some(figures) = got.figures {
            assert_eq!(figures.slowdown, number(want, "slowdown"), "row {rows}");
            assert!((figures.near - number(want, "near")).abs() < 1e-6, "row {rows}");
            assert!((figures.crowding - number(want, "crowding")).abs() < 1e-6, "row {rows}");
            let split = want["split"].as_array().expect("split");
            assert_eq!(got.split.len(), split.len(), "row {rows}");
            for (share, want) in got.split.iter().zip(split) {
                assert_eq!(u64::from(share.node), want["node"].as_u64().unwrap());
                assert!((share.cpus - number(want, "cpus")).abs() < 1e-6, "row {rows}");
                assert!((share.mem - number(want, "mem")).abs() < 1e-6, "row {rows}");
            }
        } else {
            assert!(want["slowdown"].is_null(), "row {rows}");
        }
        rows += 1;
    }
    println!("{rows} rows of {path} agree");
    assert!(rows >= 400);
}

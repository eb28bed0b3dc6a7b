//! The JSON that others rely on, against the schemas that the program ships: `src/report/schema/*.json`.
//!
//! That those are what the types say is held by a test beside the types, in `src/report/json.rs`.

#![allow(clippy::panic, reason = "a test that cannot go on says why")]

use crate::common;
use testkit::schema;

use serde_json::{Value, json};

use common::{fixture, fixtures, json, placer, placer_on, run, text};
use schema::broken;

/// Returns a schema, from the program.
fn of(command: &str) -> Value {
    json(&run(placer().args(["schema", command])))
}

#[test]
fn the_program_prints_the_schemas_that_lie_in_the_source() {
    for command in ["advise", "together", "launch", "fit", "show", "replay", "manage"] {
        let shipped = common::project().join(format!("src/report/schema/{command}.json"));
        let shipped = std::fs::read_to_string(shipped).expect("a schema");
        assert_eq!(text(&run(placer().args(["schema", command])).stdout), shipped);
    }
}

#[test]
fn every_answer_about_every_fixture_is_as_the_schemas_say() {
    let (advise, show) = (of("advise"), of("show"));
    let (together, fit) = (of("together"), of("fit"));
    let mut count = 0;
    for name in fixtures() {
        let root = fixture(&name);
        let mut look = |schema: &Value, args: &[&str]| {
            let output = placer_on(&root, args);
            let broken = broken(schema, &json(&output));
            assert!(broken.is_empty(), "{name} {args:?}: {}", broken.join("\n"));
            count += 1;
        };
        look(&show, &["show", "--json"]);
        look(&fit, &["fit", "2:100", "--json", "--machine-wide"]);
        let guests = ["advise", "1:100", "2:64G", "--copies", "2", "--json", "--machine-wide"];
        look(&together, &guests);
        look(&together, &[&guests[..], &["--pin", "cores"]].concat());
        for request in ["0", "1:100", "2.5:300", "8:900", "64:64G"] {
            for more in [&[][..], &["--strict"], &["--policy", "numad"], &["--prefer", "pack"]] {
                look(&advise, &[&["advise", "--json", "--machine-wide", request], more].concat());
            }
        }
    }
    let launch = of("launch");
    let root = fixture("ring-4");
    for guest in ["docs/examples/db.toml", "launcher/examples/web.xml"] {
        let guest = common::project().join(guest);
        let guest = guest.to_str().expect("a plain path");
        let shown = json(&placer_on(&root, &["launch", "--dry-run", "--json", guest]));
        assert_eq!(broken(&launch, &shown), [""; 0]);
        assert_eq!(broken(&advise, &shown["advice"]), [""; 0]);
    }
    let root = fixture("hugepages-4");
    let pages = placer_on(&root, &["advise", "--json", "--pages", "2M", "1:200"]);
    assert_eq!(broken(&advise, &json(&pages)), [""; 0]);
    println!("{count} documents");
    assert!(count > 20 * fixtures().len(), "{count}");
}

/// A schema that lets everything pass says nothing.
#[test]
fn damaged_documents_are_not_as_the_schemas_say() {
    let root = fixture("ring-4-busy");
    let (advise, show) = (of("advise"), of("show"));
    let advice = json(&placer_on(&root, &["advise", "--json", "64:64G"]));
    let fitting = json(&placer_on(&root, &["advise", "--json", "2:200"]));
    let host = json(&placer_on(&root, &["show", "--json"]));
    let mut cases = Vec::new();
    for (schema, document) in [(&advise, &advice), (&show, &host)] {
        assert!(broken(schema, document).is_empty());
        for name in schema["required"].as_array().expect("names") {
            let mut without = document.clone();
            let name = name.as_str().expect("a name");
            without.as_object_mut().expect("an object").remove(name);
            cases.push((format!("without {name}"), schema, without));
        }
    }
    for (schema, document, place, value) in [
        (&advise, &advice, "/version", json!(2)),
        (&advise, &advice, "/version", json!("1")),
        (&advise, &advice, "/policy", json!("worst")),
        (&advise, &advice, "/nodes", json!([0, 1])),
        (&advise, &advice, "/nodes", json!("0-")),
        (&advise, &advice, "/nodes", json!("0,,2")),
        (&advise, &advice, "/cpus", json!("a")),
        (&advise, &advice, "/fits", json!("no")),
        (&advise, &advice, "/request/memory", json!(-1)),
        (&advise, &advice, "/request/memory", json!(1.5)),
        (&advise, &advice, "/short/cpus", json!(null)),
        (&advise, &advice, "/split/0/node", json!("0")),
        (&advise, &advice, "/split/0/memory", json!("1G")),
        (&advise, &advice, "/slowdown", json!("1.0")),
        (&advise, &advice, "/proof", json!("maybe")),
        (&advise, &advice, "/proof", json!({"gap": "small"})),
        (&advise, &advice, "/proof", json!({"gap": -0.1})),
        (&advise, &advice, "/proof", json!({"gap": 0.1, "other": 1})),
        (&advise, &fitting, "/alternatives/0/reason", json!(null)),
        (&advise, &fitting, "/numad/nodes", json!("zero")),
        (&advise, &advice, "/notes", json!("a note")),
        (&show, &host, "/nodes/0/id", json!(-1)),
        (&show, &host, "/nodes/0/memory_free", json!("2 GiB")),
        (&show, &host, "/nodes/0/cpus", json!([0, 1])),
        (&show, &host, "/distances/matrix/0", json!("10 20")),
        (&show, &host, "/distances/matrix/0/0", json!(-10)),
    ] {
        let mut damaged = document.clone();
        let target = damaged.pointer_mut(place);
        let target = target.unwrap_or_else(|| panic!("{place} is not there: {document}"));
        *target = value.clone();
        cases.push((format!("{place} = {value}"), schema, damaged));
    }
    for (what, schema, document) in cases {
        assert!(!broken(schema, &document).is_empty(), "{what} passes");
    }
}

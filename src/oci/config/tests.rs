use proptest::prelude::*;
use serde_json::{Map, Number, Value, json};

use super::*;

fn hook() -> Hook {
    Hook {
        program: "/usr/bin/placer".to_owned(),
        name: "0f".to_owned(),
        env: vec!["PLACER_STATE_DIR=/s".to_owned()],
        timeout_s: 10,
    }
}

fn binding() -> Binding {
    Binding { cpus: "4-5".to_owned(), mems: "2".to_owned(), preferred: String::new() }
}

fn definition(config: &Value) -> Result<Option<Definition>, String> {
    Config::parse(&config.to_string())?.definition()
}

#[test]
fn what_engines_write_is_read() {
    let none = || Some(Definition::default());
    let with = |change: &dyn Fn(&mut Definition)| {
        let mut definition = Definition::default();
        change(&mut definition);
        Some(definition)
    };
    let resources = |resources: Value| json!({ "linux": { "resources": resources } });
    let annotated =
        |name: &str, value: &str| json!({ "annotations": { name: value }, "linux": {} });
    for (config, wanted) in [
        (json!({ "process": {}, "windows": {} }), None),
        (json!({ "linux": {} }), none()),
        (json!({ "linux": { "resources": null }, "annotations": null, "hooks": null }), none()),
        // Docker writes its defaults.
        (
            resources(json!({ "cpu": { "shares": 0 }, "memory": {}, "pids": { "limit": -1 } })),
            with(&|it| it.shares = Some(0)),
        ),
        (
            resources(
                json!({ "cpu": { "quota": 150_000, "period": 100_000, "cpus": "", "mems": "" },
                "memory": { "limit": 104_857_600, "swap": 104_857_600 } }),
            ),
            with(&|it| {
                (it.quota, it.period, it.memory) = (Some(150_000), Some(100_000), Some(100 << 20));
            }),
        ),
        (resources(json!({ "cpu": { "cpus": "0-1" } })), with(&|it| it.placed = true)),
        (resources(json!({ "cpu": { "mems": "0" } })), with(&|it| it.placed = true)),
        (resources(json!({ "unified": { "cpuset.cpus": "0" } })), with(&|it| it.placed = true)),
        (resources(json!({ "unified": { "memory.high": "1" } })), none()),
        (
            json!({ "linux": {}, "process": { "env": ["A=1", "PLACER_NODES=all"] } }),
            with(&|it| it.placed = true),
        ),
        (json!({ "linux": {}, "process": { "env": ["PLACER_NODESX=1"] } }), none()),
        (json!({ "linux": {}, "process": { "env": ["PLACER_NODES="] } }), none()),
        (
            json!({ "linux": { "memoryPolicy": { "mode": "MPOL_BIND", "nodes": "0" } } }),
            with(&|it| it.placed = true),
        ),
        (resources(json!({ "hugepageLimits": [{ "pageSize": "2MB", "limit": 0 }] })), none()),
        (
            resources(json!({ "hugepageLimits": [{ "pageSize": "2MB", "limit": 4_194_304 }] })),
            with(&|it| it.huge_pages = true),
        ),
        (annotated("org.placer.request", "4:8G"), with(&|it| it.request = Some("4:8G".to_owned()))),
        (
            annotated("io.kubernetes.cri.container-type", "sandbox"),
            with(&|it| (it.sandbox, it.shares_are_cpus) = (true, true)),
        ),
        (
            annotated("io.kubernetes.cri-o.ContainerType", "container"),
            with(&|it| it.shares_are_cpus = true),
        ),
    ] {
        assert_eq!(definition(&config), Ok(wanted), "{config}");
    }
}

#[test]
fn what_is_wrong_is_said() {
    let parse = |text: &str| Config::parse(text).and_then(|config| config.definition());
    for (text, wanted) in [
        ("", "EOF while parsing a value at line 1 column 0"),
        ("[]", "invalid type: sequence, expected an object at line 1 column 0"),
        (r#"{"linux":{},"linux":{}}"#, "\"linux\" twice at line 1 column 23"),
        (
            r#"{"linux":7}"#,
            "linux: invalid type: integer `7`, expected an object at line 1 column 1",
        ),
        (
            r#"{"linux":{"resources":{"cpu":{"quota":"1"}}}}"#,
            "quota: invalid type: string \"1\", expected i64 at line 1 column 3",
        ),
        (
            r#"{"linux":{},"annotations":{"org.placer.request":4}}"#,
            "annotations: org.placer.request: invalid type: integer `4`, expected a string at line 1 column 1",
        ),
    ] {
        assert_eq!(parse(text).expect_err("refused"), wanted, "{text}");
    }
    // What is not looked at is as deep as it likes.
    let deep = format!("{{\"x\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(Config::parse(&deep).and_then(|config| config.to_text()), Ok(deep));
}

#[test]
fn a_place_is_written_and_the_rest_kept() {
    let before = r#"{"ociVersion": "1.0.2", "process":{"args":["sh"],"x":1.10},
 "linux":{"seccomp":{ "a":[ 1e3 ] },"resources":{"memory":{"limit":1},"cpu":{"mems":"","shares":2}}},
 "hooks":{"prestart":[{"path":"/a"}],"createRuntime":[{"path":"/b", "args":["b"]}]},
 "annotations":{"k":"\u00fc"}}"#;
    let mut config = Config::parse(before).expect("a configuration");
    assert!(!config.is_changed());
    config.place(&binding(), &hook()).expect("placed");
    assert!(config.is_changed());
    let after = concat!(
        r#"{"ociVersion":"1.0.2","process":{"args":["sh"],"x":1.10},"#,
        r#""linux":{"seccomp":{ "a":[ 1e3 ] },"resources":{"memory":{"limit":1},"#,
        r#""cpu":{"mems":"2","shares":2,"cpus":"4-5"}}},"#,
        r#""hooks":{"prestart":[{"path":"/a"}],"createRuntime":[{"path":"/b", "args":["b"]},"#,
        r#"{"path":"/usr/bin/placer","args":["placer-runc","adopt","0f"],"#,
        r#""env":["PLACER_STATE_DIR=/s"],"timeout":10}]},"#,
        r#""annotations":{"k":"\u00fc","org.placer.placed":"{\"cpus\":\"4-5\",\"mems\":\"2\"}"}}"#,
    );
    assert_eq!(config.to_text().as_deref(), Ok(after));
}

#[test]
fn nodes_that_are_preferred_are_a_memory_policy() {
    let mut config = Config::parse("{\"linux\":{}}").expect("a configuration");
    let binding = Binding { preferred: "0-1".to_owned(), ..Binding::default() };
    config.place(&binding, &Hook { env: Vec::new(), ..hook() }).expect("placed");
    let after = concat!(
        r#"{"linux":{"memoryPolicy":{"mode":"MPOL_PREFERRED_MANY","nodes":"0-1"}},"#,
        r#""hooks":{"createRuntime":[{"path":"/usr/bin/placer","args":["placer-runc","adopt","0f"],"#,
        r#""timeout":10}]},"annotations":{"org.placer.placed":"{\"preferred\":\"0-1\"}"}}"#,
    );
    assert_eq!(config.to_text().as_deref(), Ok(after));
    let again = Config::parse(after).expect("a configuration");
    assert_eq!(again.definition(), Ok(Some(Definition::default())));
}

#[test]
fn a_bundle_that_is_started_again_is_placed_anew() {
    let mut first = Config::parse(r#"{"linux":{"resources":{"cpu":{"quota":1}}}}"#).expect("one");
    first.place(&binding(), &hook()).expect("placed");
    let text = first.to_text().expect("a text");
    let mut again = Config::parse(&text).expect("one");
    assert!(again.is_changed());
    let wanted = Definition { quota: Some(1), ..Definition::default() };
    assert_eq!(again.definition(), Ok(Some(wanted)));
    assert!(!again.to_text().expect("a text").contains("placer"));
    again.place(&binding(), &hook()).expect("placed");
    assert_eq!(again.to_text().as_deref(), Ok(text.as_str()));

    // What was set by hand since then stays.
    let by_hand = text.replace("\"4-5\"", "\"0\"");
    let by_hand = Config::parse(&by_hand).expect("one").definition().expect("read");
    assert!(by_hand.expect("of Linux").placed);
}

#[test]
fn an_annotation_of_a_user_takes_nothing_out() {
    for placed in [r#"{"cpus":"0-1"}"#, "{", ""] {
        let text = json!({
            "linux": { "resources": { "cpu": { "cpus": "0-1" } } },
            "annotations": { PLACED: placed, STRICT: "true" },
        });
        let config = Config::parse(&text.to_string()).expect("a configuration");
        assert!(!config.is_changed(), "{placed}");
        assert!(config.definition().expect("read").expect("of Linux").placed, "{placed}");
        assert_eq!(config.unknown_annotations(), Ok(vec![PLACED.to_owned()]));
        assert_eq!(config.annotation(STRICT), Ok(Some("true".to_owned())));
    }
    let odd = Config::parse(r#"{"annotations":{"org.placer.placed":7}}"#);
    assert_eq!(odd.and_then(|config| config.annotation(STRICT)), Ok(None));
    // Beside the hook it is placer's. One that is spoilt leaves no hook for a claim that has ended.
    let mut config = Config::parse("{\"linux\":{}}").expect("a configuration");
    config.place(&binding(), &hook()).expect("placed");
    config.root.set(&["annotations", PLACED], &"{").expect("set");
    let again = Config::parse(&config.to_text().expect("a text")).expect("a configuration");
    assert!(again.definition().expect("read").expect("of Linux").placed);
    assert!(!again.to_text().expect("a text").contains("placer"));
}

#[test]
fn slips_in_names_of_annotations_are_found() {
    let text = r#"{"linux":{},"annotations":{"org.placer.requst":"1","org.placer.request":"1","org.other":""}}"#;
    let config = Config::parse(text).expect("a configuration");
    assert_eq!(config.unknown_annotations(), Ok(vec!["org.placer.requst".to_owned()]));
}

/// Any JSON of some depth, with keys of the specification among the others.
fn any_json() -> impl Strategy<Value = Value> {
    let key = prop_oneof![
        "[a-z\\\\\"é]{0,3}",
        prop::sample::select(vec!["linux", "resources", "cpu", "memory", "hooks", "annotations"])
            .prop_map(str::to_owned),
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(|n| Number::from_f64(n).map_or(Value::Null, Value::Number)),
        "\\PC{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((key.clone(), inner), 0..4)
                .prop_map(|entries| Value::Object(entries.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

proptest! {
    /// Nothing is lost, nothing else changes, and the order of keys is kept.
    #[test]
    fn unknown_fields_survive(
        mut entries in prop::collection::vec(("[a-z]{1,9}", any_json()), 0..6),
        number in "-?(0|[1-9][0-9]{0,30})(\\.[0-9]{1,20})?([eE][+-]?[0-9]{1,3})?",
    ) {
        entries.sort_by(|a, b| a.0.cmp(&b.0));
        entries.dedup_by(|a, b| a.0 == b.0);
        entries.retain(|(key, _)| !["linux", "hooks", "annotations"].contains(&key.as_str()));
        let text = |value: &Value| format!("{value:#}");
        let part = |(key, value): &(String, Value)| format!("{}: {}", json!(key), text(value));
        let mut parts: Vec<String> = entries.iter().rev().map(part).collect();
        parts.push(format!("\"linux\": {{\"z\": {number}, \"resources\": {{\"a\":{number}}} }}"));
        let before = format!("{{ {} }}", parts.join(" , "));
        let mut config = Config::parse(&before).expect("a configuration");
        config.place(&binding(), &hook()).expect("placed");
        let after = config.to_text().expect("a text");

        // Values stand in the text as they did, in their order.
        let mut at = 0;
        for entry in entries.iter().rev() {
            let (key, value) = (json!(entry.0).to_string(), text(&entry.1));
            let found = after[at..].find(&format!("{key}:{value}"));
            prop_assert!(found.is_some(), "{key} in {after}");
            at += found.unwrap_or_default();
        }
        let kept = format!("\"linux\":{{\"z\":{number},\"resources\":{{\"a\":{number},\"cpu\":");
        prop_assert!(after[at..].contains(&kept), "{kept} in {after}");

        // Started again it is as it was, but for empty objects that were made.
        let again = Config::parse(&after).expect("a configuration").to_text().expect("a text");
        let read = |text: &str| serde_json::from_str::<Map<String, Value>>(text);
        if let (Ok(mut again), Ok(before)) = (read(&again), read(&before)) {
            again.remove("hooks");
            again.remove("annotations");
            again["linux"]["resources"].as_object_mut().expect("made").remove("cpu");
            prop_assert_eq!(again, before);
        }
    }

    /// Whatever the parts are that are looked at: an error, or a text that is read again.
    #[test]
    fn any_configuration_is_answered(config in any_json()) {
        let text = config.to_string();
        let Ok(mut read) = Config::parse(&text) else { return Ok(()) };
        let _ = read.definition();
        if read.place(&binding(), &hook()).is_ok() {
            let after = read.to_text().expect("a text");
            let after: Value = serde_json::from_str(&after).expect("JSON");
            prop_assert_eq!(&after["linux"]["resources"]["cpu"]["mems"], "2");
            // Numbers are compared as this parser reads them.
            let before: Map<String, Value> = serde_json::from_str(&text).expect("an object");
            for (key, value) in &before {
                if !["linux", "hooks", "annotations"].contains(&key.as_str()) {
                    prop_assert_eq!(&after[key], value);
                }
            }
        }
    }

    #[test]
    fn any_text_is_answered(text in "\\PC{0,64}") {
        let _ = Config::parse(&text).map(|config| config.definition());
    }
}

//! The JSON Schema of the guest file: made of the types, shipped as a file, held against the reader.
//!
//! `UPDATE_EXPECT=1` writes the file anew.

use std::borrow::Cow;

use placer_engine::Id;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

use super::super::fields::{Argument, Cpus, Line, List, Memory, PageSize, Parts, Token, Word};
use super::super::tables::{Cpuset, File};
use super::{mini_schema, read, samples};
use crate::guest::{CgroupMode, GuestName, MemoryMode, ThreadPin};

const TOKEN: &str = "^[A-Za-z0-9._-]{1,64}$";
const LIST: &str = r"^\s*(\^[0-9]+|[0-9]+(-[0-9]+)?)(\s*,\s*(\^[0-9]+|[0-9]+(-[0-9]+)?))*\s*$";

/// Gives a type a schema that is written down here.
macro_rules! schema {
    ($($type:ty, $name:literal, $schema:tt;)+) => {$(
        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                $name.into()
            }
            fn inline_schema() -> bool {
                true
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($schema)
            }
        }
    )+};
}

schema! {
    Cpus, "Cpus", {"anyOf": [
        {"type": "number", "minimum": 0.01, "maximum": 65536},
        {"type": "string", "pattern": r"^[0-9]+(\.[0-9]{1,2})?$"},
    ]};
    Memory, "Memory", {"anyOf": [
        {"type": "integer", "minimum": 1},
        {"type": "string", "pattern": "^0*[1-9][0-9]*[KMGT]?$"},
    ]};
    PageSize, "PageSize",
        {"type": "string", "pattern": "^(default|(1|2|4|8|16|32|64|128|256|512)[KMG])$"};
    Parts, "Parts", {"type": "integer", "minimum": 1, "maximum": 128};
    Argument, "Argument", {"type": "string", "pattern": r"^[^\u0000]*$"};
    Line, "Line", {"type": "string", "pattern": r"^[^\u0000-\u001f\u007f-\u009f]+$"};
    Token, "Token", {"type": "string", "pattern": TOKEN};
    Cpuset, "Cpuset", {"anyOf": [{"const": "all"}, {"type": "string", "pattern": LIST}]};
    Word<GuestName>, "GuestName",
        {"type": "string", "pattern": r"^[^/\u0000-\u001f\u007f-\u009f]{1,128}$", "not": {"enum": [".", ".."]}};
    Word<MemoryMode>, "MemoryMode", {"enum": (words(MemoryMode::ALL))};
    Word<CgroupMode>, "CgroupMode", {"enum": (words(CgroupMode::ALL))};
    Word<ThreadPin>, "ThreadPin", {"enum": (words(ThreadPin::ALL))};
}

fn words<T: ToString>(all: &[T]) -> Vec<String> {
    all.iter().map(ToString::to_string).collect()
}

impl<T: Id> JsonSchema for List<T> {
    fn schema_name() -> Cow<'static, str> {
        "List".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "pattern": LIST})
    }
}

/// What a guest file says about the programs that its fields alone do not.
pub(crate) fn one_program() -> Value {
    json!([
        {"oneOf": [{"required": ["command"]}, {"required": ["qemu"]}, {"required": ["lxc"]}]},
        {
            "if": {"required": ["qemu"]},
            "then": {
                "required": ["memory"],
                "properties": {"cpus": {"anyOf": [
                    {"type": "integer"}, {"type": "string", "pattern": r"^[0-9]+(\.00?)?$"},
                ]}},
            },
        },
    ])
}

pub(crate) fn both_roots() -> Value {
    json!({"required": ["container", "rootfs"]})
}

pub(crate) fn token() -> Value {
    json!({"pattern": TOKEN})
}

pub(crate) fn iothreads(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "integer", "minimum": 0, "maximum": 65535, "default": 0})
}

/// Takes null out of a schema: what is optional has it in JSON, and TOML has no such value.
fn without_null(schema: &mut Value) {
    let null = json!({"type": "null"});
    if let Value::Object(keywords) = schema {
        for (keyword, one) in [("type", json!("null")), ("enum", Value::Null), ("anyOf", null)] {
            let Some(Value::Array(all)) = keywords.get_mut(keyword) else { continue };
            all.retain(|value| *value != one);
            let Some(only) = all.first().filter(|_| all.len() == 1).cloned() else { continue };
            match (keyword, only) {
                ("type", only) => _ = keywords.insert(keyword.to_owned(), only),
                ("anyOf", Value::Object(only)) => {
                    keywords.remove(keyword);
                    keywords.extend(only);
                }
                _ => {}
            }
        }
        keywords.values_mut().for_each(without_null);
    } else if let Value::Array(values) = schema {
        values.iter_mut().for_each(without_null);
    }
}

#[test]
fn the_shipped_schema_is_that_of_the_types() {
    let mut schema = Value::from(schemars::schema_for!(File));
    without_null(&mut schema);
    // As a schema it is printed in an order for people.
    let schema = Schema::try_from(schema).unwrap();
    let text = serde_json::to_string_pretty(&schema).unwrap() + "\n";
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/schema/guest.schema.json");
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(path, &text).unwrap();
    }
    let shipped = std::fs::read_to_string(path).unwrap();
    assert!(shipped == text, "{path} is old: run this test with UPDATE_EXPECT=1 and read the diff");
}

/// The text as a JSON value, if it is TOML at all.
fn as_json(text: &str) -> Option<Value> {
    toml::from_str::<Value>(text).ok()
}

#[test]
fn schema_and_reader_agree() {
    let schema: Value = serde_json::from_str(super::super::SCHEMA).unwrap();
    for (wanted, text) in samples::all() {
        let taken = read(&text);
        assert_eq!(taken.is_ok(), wanted, "{text}\n{taken:?}");
        let value = as_json(&text).unwrap_or_else(|| panic!("not TOML: {text}"));
        let fault = mini_schema::fault(&schema, &schema, &value);
        assert_eq!(fault.is_none(), wanted, "{text}\n{fault:?}");
    }
}

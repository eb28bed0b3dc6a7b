//! Tries documents against a JSON Schema: the words that ours use, and an end at any other, so that
//! none is passed over in silence.

use serde_json::{Map, Value};

/// What a document breaks, with the path to it; empty when it is as the schema says.
pub fn broken(schema: &Value, document: &Value) -> Vec<String> {
    let mut found = Vec::new();
    Checker { root: schema, found: &mut found }.check(schema, document, "$");
    found
}

struct Checker<'a> {
    root: &'a Value,
    found: &'a mut Vec<String>,
}

impl Checker<'_> {
    fn check(&mut self, schema: &Value, value: &Value, at: &str) {
        let schema = match schema {
            Value::Bool(true) => return,
            Value::Object(words) => words,
            other => panic!("no schema: {other}"),
        };
        for (word, told) in schema {
            if !self.holds(schema, word, told, value, at) {
                self.found.push(format!("{at}: {word} {told}, found {value}"));
            }
        }
    }

    fn holds(
        &mut self,
        schema: &Map<String, Value>,
        word: &str,
        told: &Value,
        value: &Value,
        at: &str,
    ) -> bool {
        match word {
            // They say nothing about a document, or only how wide its numbers are.
            "$schema" | "$defs" | "title" | "description" | "format" => true,
            "$ref" => {
                let pointer = told.as_str().and_then(|r| r.strip_prefix('#')).expect("a pointer");
                let target = self.root.pointer(pointer).expect("what is pointed to").clone();
                self.check(&target, value, at);
                true
            }
            "type" => match told {
                Value::Array(kinds) => kinds.iter().any(|kind| is(kind, value)),
                kind => is(kind, value),
            },
            "const" => told == value,
            "enum" => told.as_array().expect("choices").contains(value),
            "maximum" => value.as_f64().is_none_or(|n| n <= told.as_f64().expect("a number")),
            "minimum" => value.as_f64().is_none_or(|n| n >= told.as_f64().expect("a number")),
            "pattern" => value.as_str().is_none_or(|text| {
                let pattern = told.as_str().expect("a pattern");
                regex::Regex::new(pattern).expect("a good pattern").is_match(text)
            }),
            "required" => {
                let names = told.as_array().expect("names");
                let has = |name: &Value| value.get(name.as_str().expect("a name")).is_some();
                !value.is_object() || names.iter().all(has)
            }
            "properties" => {
                for (name, schema) in told.as_object().expect("properties") {
                    if let Some(value) = value.get(name) {
                        self.check(schema, value, &format!("{at}.{name}"));
                    }
                }
                true
            }
            "additionalProperties" => {
                let known = schema.get("properties").and_then(Value::as_object);
                let is_known = |name: &String| known.is_some_and(|known| known.contains_key(name));
                *told == Value::Bool(false)
                    && value.as_object().is_none_or(|object| object.keys().all(is_known))
            }
            "items" => {
                for (place, item) in value.as_array().into_iter().flatten().enumerate() {
                    self.check(told, item, &format!("{at}[{place}]"));
                }
                true
            }
            "anyOf" => self.fitting(told, value) >= 1,
            "oneOf" => self.fitting(told, value) == 1,
            other => panic!("{at}: the word {other} is not known here: add it"),
        }
    }

    fn fitting(&self, schemas: &Value, value: &Value) -> usize {
        let schemas = schemas.as_array().expect("schemas").iter();
        let fits = |schema: &&Value| {
            let mut found = Vec::new();
            Checker { root: self.root, found: &mut found }.check(schema, value, "");
            found.is_empty()
        };
        schemas.filter(fits).count()
    }
}

fn is(kind: &Value, value: &Value) -> bool {
    match kind.as_str().expect("the name of a type") {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        "number" => value.is_number(),
        "integer" => value.is_u64() || value.is_i64(),
        other => panic!("no type: {other}"),
    }
}

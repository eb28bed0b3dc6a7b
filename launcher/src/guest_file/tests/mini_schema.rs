//! The part of JSON Schema (2020-12) that the guest file's schema uses. A keyword that is not known
//! here fails the test, so nothing in the schema goes unchecked.

use regex::Regex;
use serde_json::Value;

/// Says what of `value` the schema refuses, if anything.
pub(super) fn fault(root: &Value, schema: &Value, value: &Value) -> Option<String> {
    let keywords = match schema {
        Value::Bool(true) => return None,
        Value::Object(keywords) => keywords,
        _ => return Some(format!("refused: {value}")),
    };
    keywords.iter().find_map(|(keyword, wanted)| {
        let bad = || Some(format!("{keyword} {wanted}: {value}"));
        let taking = || list(wanted).iter().filter(|s| fault(root, s, value).is_none()).count();
        match keyword.as_str() {
            "$schema" | "title" | "description" | "default" | "$defs" | "format" => None,
            "$ref" => {
                let at = wanted.as_str().unwrap().strip_prefix('#').unwrap();
                fault(root, root.pointer(at).unwrap(), value)
            }
            "type" => {
                let types =
                    if wanted.is_array() { list(wanted) } else { std::slice::from_ref(wanted) };
                if types.iter().any(|t| is(t.as_str().unwrap(), value)) { None } else { bad() }
            }
            "const" => {
                if wanted == value {
                    None
                } else {
                    bad()
                }
            }
            "enum" => {
                if list(wanted).contains(value) {
                    None
                } else {
                    bad()
                }
            }
            "allOf" => list(wanted).iter().find_map(|s| fault(root, s, value)),
            "anyOf" => {
                if taking() > 0 {
                    None
                } else {
                    bad()
                }
            }
            "oneOf" => {
                if taking() == 1 {
                    None
                } else {
                    bad()
                }
            }
            "not" => {
                if fault(root, wanted, value).is_some() {
                    None
                } else {
                    bad()
                }
            }
            "if" => {
                let holds = fault(root, wanted, value).is_none();
                let then = keywords.get("then").filter(|_| holds)?;
                fault(root, then, value)
            }
            "then" => None,
            "minimum" => {
                value.as_f64().and_then(|n| if n < wanted.as_f64().unwrap() { bad() } else { None })
            }
            "maximum" => {
                value.as_f64().and_then(|n| if n > wanted.as_f64().unwrap() { bad() } else { None })
            }
            "pattern" => {
                let regex = Regex::new(&pattern(wanted.as_str().unwrap())).unwrap();
                value.as_str().and_then(|text| if regex.is_match(text) { None } else { bad() })
            }
            "items" => value.as_array()?.iter().find_map(|item| fault(root, wanted, item)),
            "minItems" => {
                let short = (value.as_array()?.len() as u64) < wanted.as_u64().unwrap();
                if short { bad() } else { None }
            }
            "required" => {
                let table = value.as_object()?;
                let there = |key: &Value| table.contains_key(key.as_str().unwrap());
                if list(wanted).iter().all(there) { None } else { bad() }
            }
            "properties" => value.as_object()?.iter().find_map(|(key, value)| {
                wanted.get(key).and_then(|schema| fault(root, schema, value))
            }),
            "propertyNames" => value
                .as_object()?
                .keys()
                .find_map(|key| fault(root, wanted, &Value::String(key.clone()))),
            "additionalProperties" => value.as_object()?.iter().find_map(|(key, value)| {
                let named = keywords.get("properties").is_some_and(|p| p.get(key).is_some());
                if named { None } else { fault(root, wanted, value) }
            }),
            unknown => Some(format!("this test does not know the keyword {unknown}")),
        }
    })
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap()
}

fn is(name: &str, value: &Value) -> bool {
    match name {
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "object" => value.is_object(),
        "array" => value.is_array(),
        "null" => value.is_null(),
        "number" => value.is_number(),
        "integer" => value.as_f64().is_some_and(|n| n.fract() == 0.0),
        _ => panic!("unknown type {name}"),
    }
}

/// ECMA's `\u0000` is written `\x{0000}` for this crate.
fn pattern(ecma: &str) -> String {
    let mut parts = ecma.split(r"\u");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| {
        let (digits, rest) = part.split_at(4);
        format!(r"{text}\x{{{digits}}}{rest}")
    })
}

//! Tries calls and replies against the interface that the daemon tells: each has the fields that the
//! interface says, all of them but the optional ones, and no others.

use std::collections::BTreeMap;

use serde_json::Value;

/// A type of varlink's.
#[derive(Clone, Debug)]
enum Type {
    Bool,
    Int,
    Float,
    String,
    Object,
    Named(String),
    Optional(Box<Type>),
    Array(Box<Type>),
    Struct(Vec<(String, Type)>),
    Enum(Vec<String>),
}

/// An interface: types, methods with what they take and give, errors.
#[derive(Debug)]
pub struct Interface {
    name: String,
    types: BTreeMap<String, Type>,
    methods: BTreeMap<String, (Type, Type)>,
    errors: BTreeMap<String, Type>,
}

impl Interface {
    /// Reads the text of an interface.
    pub fn parse(text: &str) -> Self {
        let plain: String = text
            .lines()
            .map(|line| line.split('#').next().unwrap_or_default())
            .flat_map(|line| [line, "\n"])
            .collect();
        let mut words = Words { rest: &plain };
        words.expect("interface");
        let mut new = Self {
            name: words.name(),
            types: BTreeMap::new(),
            methods: BTreeMap::new(),
            errors: BTreeMap::new(),
        };
        while !words.at_end() {
            match words.name().as_str() {
                "type" => {
                    let name = words.name();
                    assert!(new.types.insert(name, words.of_type()).is_none());
                }
                "method" => {
                    let (name, takes) = (words.name(), words.of_type());
                    words.expect("->");
                    assert!(new.methods.insert(name, (takes, words.of_type())).is_none());
                }
                "error" => {
                    let name = words.name();
                    assert!(new.errors.insert(name, words.of_type()).is_none());
                }
                other => panic!("{other} is no word of varlink's"),
            }
        }
        new
    }

    /// Returns what of a reply to a call is not as the interface says, and of the call, if it is told.
    pub fn broken(&self, method: &str, parameters: Option<&Value>, reply: &Value) -> Vec<String> {
        let mut found = Vec::new();
        let Some(method) = method.strip_prefix(&format!("{}.", self.name)) else { return found };
        let Some((takes, gives)) = self.methods.get(method) else {
            return vec![format!("there is no method {method}")];
        };
        let answer = &reply["parameters"];
        match reply["error"].as_str() {
            // What was asked was as it should be.
            None => {
                if let Some(parameters) = parameters {
                    self.check(takes, parameters, &format!("{method} takes"), &mut found);
                }
                self.check(gives, answer, &format!("{method} gives"), &mut found);
            }
            Some(error) => {
                let own = error.strip_prefix(&format!("{}.", self.name));
                match own.map(|error| self.errors.get(error)) {
                    Some(Some(told)) => self.check(told, answer, error, &mut found),
                    Some(None) => found.push(format!("there is no error {error}")),
                    None if error.starts_with("org.varlink.service.") => {}
                    None => found.push(format!("{error} is nobody's error")),
                }
            }
        }
        found
    }

    /// Makes a call of one of the methods, of values that have the types it takes: which, `bytes` decides. Strings
    /// are mostly of `words`, and what is optional is there more or less often.
    pub fn call(&self, bytes: &mut dyn FnMut() -> u8, words: &[String]) -> Value {
        let at = usize::from(bytes()) % self.methods.len();
        let (name, (takes, _)) = self.methods.iter().nth(at).expect("there are as many");
        let rare = [2, 8, 32, 128][usize::from(bytes() % 4)];
        let parameters = self.value(takes, rare, bytes, words);
        serde_json::json!({"method": format!("{}.{name}", self.name), "parameters": parameters})
    }

    fn value(
        &self,
        wanted: &Type,
        rare: u8,
        bytes: &mut dyn FnMut() -> u8,
        words: &[String],
    ) -> Value {
        let small = |bytes: &mut dyn FnMut() -> u8| i64::from(bytes()) - 8;
        match wanted {
            Type::Bool => bytes().is_multiple_of(2).into(),
            Type::Int => match bytes() % 8 {
                0 => i64::MIN.into(),
                1 => u64::MAX.into(),
                2 => (1_i64 << (bytes() % 63)).into(),
                _ => small(bytes).into(),
            },
            Type::Float => match bytes() % 8 {
                0 => 1e308.into(),
                1 => (small(bytes) << 33).into(),
                _ => (small(bytes) as f64 / 8.0).into(),
            },
            Type::String => match usize::from(bytes()) {
                at if at < 224 && !words.is_empty() => words[at % words.len()].as_str().into(),
                at => (0..at % 32).map(|_| char::from(bytes())).collect::<String>().into(),
            },
            Type::Object => Value::Null,
            Type::Enum(names) => names[usize::from(bytes()) % names.len()].as_str().into(),
            Type::Optional(inner) => match bytes() % rare {
                0 => self.value(inner, rare, bytes, words),
                _ => Value::Null,
            },
            Type::Named(name) => self.value(&self.types[name], rare, bytes, words),
            Type::Array(inner) => {
                (0..bytes() % 4).map(|_| self.value(inner, rare, bytes, words)).collect()
            }
            Type::Struct(fields) => {
                let mut object = serde_json::Map::new();
                for (name, inner) in fields {
                    let value = self.value(inner, rare, bytes, words);
                    // One that is optional is left out as often as it is null.
                    if !(value.is_null() && bytes().is_multiple_of(2)) {
                        object.insert(name.clone(), value);
                    }
                }
                object.into()
            }
        }
    }

    fn check(&self, wanted: &Type, value: &Value, at: &str, found: &mut Vec<String>) {
        let good = match wanted {
            Type::Bool => value.is_boolean(),
            Type::Int => value.is_i64() || value.is_u64(),
            Type::Float => value.is_number(),
            Type::String => value.is_string(),
            Type::Object => true,
            Type::Enum(names) => value.as_str().is_some_and(|v| names.iter().any(|n| n == v)),
            Type::Optional(inner) => {
                if !value.is_null() {
                    self.check(inner, value, at, found);
                }
                true
            }
            Type::Named(name) => {
                let inner = self.types.get(name).unwrap_or_else(|| panic!("no type {name}"));
                self.check(inner, value, at, found);
                true
            }
            Type::Array(inner) => {
                let each = value.as_array().into_iter().flatten().enumerate();
                each.for_each(|(n, one)| self.check(inner, one, &format!("{at}[{n}]"), found));
                value.is_array()
            }
            Type::Struct(fields) => {
                for (name, inner) in fields {
                    self.check(inner, &value[name.as_str()], &format!("{at}.{name}"), found);
                }
                let known = |name: &String| fields.iter().any(|(field, _)| field == name);
                let names = value.as_object().map(|object| object.keys());
                let more: Vec<_> = names.into_iter().flatten().filter(|n| !known(n)).collect();
                if !more.is_empty() {
                    found.push(format!("{at}: the interface knows nothing of {more:?}"));
                }
                value.is_object()
            }
        };
        if !good {
            found.push(format!("{at}: expected {wanted:?}, found {value}"));
        }
    }
}

/// What is left of a text.
struct Words<'a> {
    rest: &'a str,
}

impl Words<'_> {
    fn at_end(&mut self) -> bool {
        self.rest = self.rest.trim_start();
        self.rest.is_empty()
    }

    fn take(&mut self, word: &str) -> bool {
        self.rest = self.rest.trim_start();
        let rest = self.rest.strip_prefix(word);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn expect(&mut self, word: &str) {
        assert!(self.take(word), "expected {word:?}, found {:.40}", self.rest);
    }

    fn name(&mut self) -> String {
        self.rest = self.rest.trim_start();
        let part = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
        let (name, rest) = self.rest.split_at(self.rest.find(|c| !part(c)).unwrap_or(0));
        assert!(!name.is_empty(), "expected a name, found {:.40}", self.rest);
        self.rest = rest;
        name.to_owned()
    }

    fn of_type(&mut self) -> Type {
        if self.take("?") {
            return Type::Optional(Box::new(self.of_type()));
        }
        if self.take("[]") {
            return Type::Array(Box::new(self.of_type()));
        }
        if !self.take("(") {
            return match self.name().as_str() {
                "bool" => Type::Bool,
                "int" => Type::Int,
                "float" => Type::Float,
                "string" => Type::String,
                "object" => Type::Object,
                name => Type::Named(name.to_owned()),
            };
        }
        let (mut fields, mut names) = (Vec::new(), Vec::new());
        while !self.take(")") {
            let name = self.name();
            if self.take(":") {
                fields.push((name, self.of_type()));
            } else {
                names.push(name);
            }
            self.take(",");
        }
        assert!(fields.is_empty() || names.is_empty(), "{fields:?} {names:?}");
        if names.is_empty() { Type::Struct(fields) } else { Type::Enum(names) }
    }
}

//! An object of JSON that keeps what it does not know: keys in their order, values byte for byte.

use std::fmt;

use serde::de::{DeserializeOwned, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

/// An object. Each key is there once.
#[derive(Debug, Default)]
pub(super) struct Object(Vec<(String, Box<RawValue>)>);

impl Object {
    /// Reads an object.
    ///
    /// Errors: it is no object, or has a key twice: which of them counts depends on the reader.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        serde_json::from_str(text).map_err(|error| error.to_string())
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(key, _)| key.as_str())
    }

    /// Returns a value; `None` where it is not there or null.
    pub(super) fn raw(&self, key: &str) -> Option<&RawValue> {
        let value = self.0.iter().find(|(known, _)| known == key).map(|(_, value)| &**value);
        value.filter(|value| value.get() != "null")
    }

    /// Returns a value as what it has to be; `None` where it is not there or null.
    ///
    /// Errors: it is something else.
    pub(super) fn value<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, String> {
        let read = |raw: &RawValue| serde_json::from_str(raw.get());
        self.raw(key).map(read).transpose().map_err(|error| format!("{key}: {error}"))
    }

    /// Returns an object in it, empty where it is not there or null.
    ///
    /// Errors: it is something else.
    pub(super) fn object(&self, key: &str) -> Result<Self, String> {
        Ok(self.value(key)?.unwrap_or_default())
    }

    /// Sets a value below a path of objects, which are made where they are missing. A key that is there keeps its
    /// place.
    ///
    /// Errors: a part of the path is no object.
    pub(super) fn set(&mut self, path: &[&str], value: &impl Serialize) -> Result<(), String> {
        let [key, below @ ..] = path else { return Ok(()) };
        let raw = match below {
            [] => serde_json::value::to_raw_value(value),
            below => {
                let mut object = self.object(key)?;
                object.set(below, value)?;
                serde_json::value::to_raw_value(&object)
            }
        };
        let raw = raw.map_err(|error| error.to_string())?;
        match self.0.iter_mut().find(|(known, _)| known == key) {
            Some((_, old)) => *old = raw,
            None => self.0.push(((*key).to_owned(), raw)),
        }
        Ok(())
    }

    /// Removes what is below a path of objects, if it is there.
    ///
    /// Errors: a part of the path is no object.
    pub(super) fn remove(&mut self, path: &[&str]) -> Result<(), String> {
        match path {
            [] => {}
            [key] => self.0.retain(|(known, _)| known != key),
            [key, below @ ..] if self.raw(key).is_some() => {
                let mut object = self.object(key)?;
                object.remove(below)?;
                self.set(&[key], &object)?;
            }
            _ => {}
        }
        Ok(())
    }
}

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Object;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry::<String, Box<RawValue>>()? {
                    entries.push(entry);
                }
                let mut keys: Vec<&str> = entries.iter().map(|(key, _)| key.as_str()).collect();
                keys.sort_unstable();
                match keys.windows(2).find(|pair| pair[0] == pair[1]) {
                    Some(pair) => Err(serde::de::Error::custom(format!("{:?} twice", pair[0]))),
                    None => Ok(Object(entries)),
                }
            }
        }
        from.deserialize_map(Entries)
    }
}

impl Serialize for Object {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut map = to.serialize_map(Some(self.0.len()))?;
        for (key, value) in &self.0 {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

//! State: what a test puts into an engine's state, and what it finds there.

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use crate::control::Control;

/// All that an engine held at one moment, exact to the byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// A JSON object of scopes, each an object of keys.
    pub text: String,
}

impl Snapshot {
    /// The values by scope and key.
    pub fn contents(&self) -> Value {
        serde_json::from_str(&self.text).expect("a snapshot is JSON")
    }
}

/// Writes are those of any caller: they fire events and triggers. Faults spare them.
pub struct State<'a>(pub(crate) &'a Control);

impl State<'_> {
    /// The value; None when there is none, `Value::Null` for a stored null.
    #[track_caller]
    pub fn get(&self, scope: &str, key: &str) -> Option<Value> {
        let text = self.get_text(scope, key)?;
        Some(serde_json::from_str(&text).expect("state is JSON"))
    }

    /// The value as it is stored, byte for byte.
    #[track_caller]
    pub fn get_text(&self, scope: &str, key: &str) -> Option<String> {
        self.0
            .text("state/get", &json!({"scope": scope, "key": key}).to_string())
    }

    /// Store a value.
    #[track_caller]
    pub fn set(&self, scope: &str, key: &str, value: Value) {
        self.set_text(scope, key, &value.to_string());
    }

    /// Store encoded JSON as it is; the test fails when it is none.
    #[track_caller]
    pub fn set_text(&self, scope: &str, key: &str, text: &str) {
        let asked = format!(
            "{{\"scope\":{},\"key\":{},\"value\":{text}}}",
            json!(scope),
            json!(key)
        );
        self.0.text("state/set", &asked);
    }

    /// Remove a key, if it is there.
    #[track_caller]
    pub fn delete(&self, scope: &str, key: &str) {
        self.0.ask("state/delete", &json!({"scope": scope, "key": key}))
    }

    /// The values of a scope by key.
    #[track_caller]
    pub fn list(&self, scope: &str) -> Map<String, Value> {
        self.0.ask("state/list", &json!({"scope": scope}))
    }

    /// The scopes that hold a key, sorted.
    #[track_caller]
    pub fn scopes(&self) -> Vec<String> {
        self.0.ask("state/scopes", &json!({}))
    }

    /// Store many values, an object of scopes that are objects of keys; others stay.
    #[track_caller]
    pub fn load(&self, contents: Value) {
        self.0.ask("state/load", &json!({"contents": contents}))
    }

    /// All that is there.
    #[track_caller]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            text: self.0.text("state/snapshot", "{}").unwrap_or_else(|| "{}".into()),
        }
    }

    /// Make it all as it was; only what differs is written.
    #[track_caller]
    pub fn restore(&self, snapshot: &Snapshot) {
        self.0
            .text("state/restore", &format!("{{\"contents\":{}}}", snapshot.text));
    }
}

/// A member that may be null, or not be there.
pub(crate) fn member<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Box<RawValue>>, D::Error> {
    Box::<RawValue>::deserialize(from).map(Some)
}

//! Events: the changes of state since the engine was started, and waiting for one.

use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::control::{Control, told};
use crate::state::member;

/// One change of one key.
#[derive(Debug, Clone, Deserialize)]
pub struct Event {
    /// Its place among all that happened in the engine.
    pub number: u64,
    /// Seconds since the engine was started.
    pub at: f64,
    /// The scope of the key.
    pub scope: String,
    /// The key.
    pub key: String,
    /// `state:created`, `state:updated` or `state:deleted`.
    #[serde(rename = "type")]
    pub kind: String,
    #[serde(default, deserialize_with = "member")]
    old_value: Option<Box<RawValue>>,
    #[serde(default, deserialize_with = "member")]
    new_value: Option<Box<RawValue>>,
}

impl Event {
    /// The value before; None where there was none.
    pub fn old_value(&self) -> Option<Value> {
        self.old_text().map(decoded)
    }

    /// The value after; None where there is none any more.
    pub fn new_value(&self) -> Option<Value> {
        self.new_text().map(decoded)
    }

    /// The value before, byte for byte.
    pub fn old_text(&self) -> Option<&str> {
        self.old_value.as_deref().map(RawValue::get)
    }

    /// The value after, byte for byte.
    pub fn new_text(&self) -> Option<&str> {
        self.new_value.as_deref().map(RawValue::get)
    }
}

fn decoded(text: &str) -> Value {
    serde_json::from_str(text).expect("state is JSON")
}

type Condition<'a> = Box<dyn Fn(&Event) -> bool + 'a>;

/// Which events: what is not said is any. Made by [`event`].
#[derive(Default)]
pub struct EventFilter<'a> {
    scope: Option<&'a str>,
    key: Option<&'a str>,
    kind: Option<&'a str>,
    value: Option<Value>,
    after: Option<u64>,
    matching: Option<Condition<'a>>,
    within: Option<Duration>,
}

/// Any event, to be narrowed down: `event().scope("shop").key("chair")`.
pub fn event<'a>() -> EventFilter<'a> {
    EventFilter::default()
}

impl<'a> EventFilter<'a> {
    /// Of this scope.
    pub fn scope(self, scope: &'a str) -> Self {
        Self {
            scope: Some(scope),
            ..self
        }
    }

    /// Of this key.
    pub fn key(self, key: &'a str) -> Self {
        Self {
            key: Some(key),
            ..self
        }
    }

    /// `state:created`, `state:updated` or `state:deleted`.
    pub fn kind(self, kind: &'a str) -> Self {
        Self {
            kind: Some(kind),
            ..self
        }
    }

    /// With this new value.
    pub fn value(self, value: Value) -> Self {
        Self {
            value: Some(value),
            ..self
        }
    }

    /// That came after this one.
    pub fn after(self, event: &Event) -> Self {
        Self {
            after: Some(event.number),
            ..self
        }
    }

    /// For which this is true.
    pub fn matching(self, condition: impl Fn(&Event) -> bool + 'a) -> Self {
        Self {
            matching: Some(Box::new(condition)),
            ..self
        }
    }

    /// How long it is waited for; 5 seconds if not said.
    pub fn within(self, time: Duration) -> Self {
        Self {
            within: Some(time),
            ..self
        }
    }

    fn matches(&self, event: &Event) -> bool {
        self.matching.as_ref().is_none_or(|condition| condition(event))
    }

    fn asked(&self, after: Option<u64>, within: Option<Duration>) -> String {
        let mut asked = serde_json::Map::new();
        let mut put = |name: &str, value: Option<Value>| value.map(|value| asked.insert(name.into(), value));
        put("scope", self.scope.map(Value::from));
        put("key", self.key.map(Value::from));
        put("type", self.kind.map(Value::from));
        put("value", self.value.clone());
        put("after", after.map(Value::from));
        put("within", within.map(|time| json!(time.as_secs_f64())));
        Value::from(asked).to_string()
    }
}

/// All events, in order.
pub struct Events<'a>(pub(crate) &'a Control);

impl Events<'_> {
    /// The events so far.
    #[track_caller]
    pub fn all(&self) -> Vec<Event> {
        self.of(event())
    }

    /// Those that fit.
    #[track_caller]
    pub fn of(&self, filter: EventFilter<'_>) -> Vec<Event> {
        let text = self
            .0
            .text("events/of", &filter.asked(filter.after, None))
            .expect("it is a list");
        let found: Vec<Event> = serde_json::from_str(&text).expect("events");
        found.into_iter().filter(|event| filter.matches(event)).collect()
    }

    /// The first that fits since the engine was started; waits for it. The test fails when it does not come,
    /// and says what did happen.
    #[track_caller]
    pub fn expect(&self, filter: EventFilter<'_>) -> Event {
        let mut left = filter.within.unwrap_or(Duration::from_secs(5));
        let deadline = Instant::now() + left;
        let mut after = filter.after;
        loop {
            let text = told(self.0.try_text("events/expect", &filter.asked(after, Some(left))));
            let found: Event = serde_json::from_str(&text.expect("it is an event")).expect("an event");
            if filter.matches(&found) {
                return found;
            }
            after = Some(found.number);
            left = deadline.saturating_duration_since(Instant::now());
        }
    }
}

//! Calls: what was called in the engine, by whom, and what came of it.

use std::fmt;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::control::{Control, Refused};

/// The error that a function answered.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct CallError {
    /// For programs: `function_not_found`, `TIMEOUT`, …
    pub code: String,
    /// For people.
    pub message: String,
}

impl fmt::Display for CallError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}", self.code, self.message)
    }
}

impl std::error::Error for CallError {}

impl From<Refused> for CallError {
    fn from(Refused { code, message }: Refused) -> Self {
        CallError { code, message }
    }
}

/// One call of one function, and what came of it.
#[derive(Debug, Clone, Deserialize)]
pub struct Call {
    /// Its place among all that happened in the engine.
    pub number: u64,
    /// Seconds since the engine was started.
    pub at: f64,
    /// The function that was called.
    pub function_id: String,
    /// Its namespace, if one was named.
    pub namespace: Option<String>,
    /// The name of the worker that called; `the engine` for an HTTP request or an event.
    pub caller: String,
    /// What it was called with.
    pub payload: Value,
    /// True when the function has answered.
    pub answered: bool,
    /// What it answered; None for an error, for null and for nothing.
    pub result: Option<Value>,
    /// The error that it answered.
    pub error: Option<CallError>,
    /// How long it took.
    pub seconds: Option<f64>,
    /// The fault that struck it.
    pub fault: Option<String>,
}

/// Which calls. Made by [`called`], or out of the function alone.
pub struct CallFilter<'a> {
    function: &'a str,
    payload: Option<Value>,
    count: u64,
    within: Duration,
}

/// Calls of a function, or of all that fit a pattern (`state::*`).
pub fn called(function: &str) -> CallFilter<'_> {
    CallFilter {
        function,
        payload: None,
        count: 1,
        within: Duration::from_secs(5),
    }
}

impl<'a> From<&'a str> for CallFilter<'a> {
    fn from(function: &'a str) -> Self {
        called(function)
    }
}

impl CallFilter<'_> {
    /// With exactly this payload.
    pub fn payload(self, payload: Value) -> Self {
        Self {
            payload: Some(payload),
            ..self
        }
    }

    /// So many of them; the last of these is the one that is given.
    pub fn count(self, count: u64) -> Self {
        Self { count, ..self }
    }

    /// How long it is waited for; 5 seconds if not said.
    pub fn within(self, time: Duration) -> Self {
        Self { within: time, ..self }
    }

    fn asked(&self) -> Value {
        let mut asked =
            json!({"function": self.function, "count": self.count, "within": self.within.as_secs_f64()});
        if let Some(payload) = &self.payload {
            asked["payload"] = payload.clone();
        }
        asked
    }
}

/// Every call that went through the engine, in order, but those of the test's own `state`.
pub struct Calls<'a>(pub(crate) &'a Control);

impl Calls<'_> {
    /// All but what SDKs ask the engine itself (`engine::*`).
    #[track_caller]
    pub fn all(&self) -> Vec<Call> {
        self.of("*")
    }

    /// Those that fit.
    #[track_caller]
    pub fn of<'a>(&self, filter: impl Into<CallFilter<'a>>) -> Vec<Call> {
        self.0.ask("calls/of", &filter.into().asked())
    }

    /// The call that fits, once it is answered; the test fails when it is not made, and says what was.
    #[track_caller]
    pub fn expect<'a>(&self, filter: impl Into<CallFilter<'a>>) -> Call {
        self.0.ask("calls/expect", &filter.into().asked())
    }
}

//! Faults: what goes wrong on demand.

use std::time::Duration;

use serde_json::{Value, json};

use crate::control::Control;

/// A fault that strikes.
pub struct Fault<'a> {
    control: &'a Control,
    number: u64,
}

impl Fault<'_> {
    /// How many calls it has struck.
    #[track_caller]
    pub fn hits(&self) -> u64 {
        self.control.ask("fault/hits", &json!({"fault": self.number}))
    }

    /// Strike no more.
    #[track_caller]
    pub fn stop(&self) {
        self.control.ask("fault/stop", &json!({"fault": self.number}))
    }
}

/// A fault to come: once, unless `times` or `probability` say otherwise. [`Striking::begin`] begins it.
#[must_use = "it strikes nothing before `begin`"]
pub struct Striking<'a> {
    control: &'a Control,
    kind: &'a str,
    asked: Value,
}

impl<'a> Striking<'a> {
    /// So many calls are struck.
    pub fn times(self, times: u64) -> Self {
        self.with("times", json!(times))
    }

    /// Each call is struck with this probability, above 0 and at most 1; without `times` there is no limit.
    pub fn probability(self, probability: f64) -> Self {
        self.with("probability", json!(probability))
    }

    /// Makes a probability the same in every run.
    pub fn seed(self, seed: u64) -> Self {
        self.with("seed", json!(seed))
    }

    /// So many first calls are spared.
    pub fn skip(self, calls: u64) -> Self {
        self.with("skip", json!(calls))
    }

    /// The code of the error, for `fail` and `lose_reply`.
    pub fn code(self, code: &str) -> Self {
        self.with("code", json!(code))
    }

    /// The text of the error, for `fail`.
    pub fn message(self, message: &str) -> Self {
        self.with("message", json!(message))
    }

    /// Any other argument of the control protocol.
    pub fn with(mut self, name: &str, value: Value) -> Self {
        self.asked[name] = value;
        self
    }

    /// From now on.
    #[track_caller]
    pub fn begin(self) -> Fault<'a> {
        let verb = format!("faults/{}", self.kind);
        let text = self
            .control
            .text(&verb, &self.asked.to_string())
            .unwrap_or_default();
        let told: Value = serde_json::from_str(&text).unwrap_or_default();
        let number = told["fault"]
            .as_u64()
            .unwrap_or_else(|| panic!("{verb} is over at once: use `now`"));
        Fault {
            control: self.control,
            number,
        }
    }

    /// For what happens at once: what the host says.
    #[track_caller]
    pub fn now(self) -> Value {
        self.control.ask(&format!("faults/{}", self.kind), &self.asked)
    }
}

/// Makes things go wrong, by function: an id or a pattern (`state::*`). What the test does is spared.
pub struct Faults<'a>(pub(crate) &'a Control);

impl<'a> Faults<'a> {
    /// The call is not made; its caller gets an error.
    pub fn fail(&self, function: &str) -> Striking<'a> {
        self.add("fail", json!({"function": function}))
    }

    /// The call is made so much later; calls after it are not held up.
    pub fn delay(&self, function: &str, time: Duration) -> Striking<'a> {
        self.add(
            "delay",
            json!({"function": function, "seconds": time.as_secs_f64()}),
        )
    }

    /// The call is made and its answer is lost: the caller gets an error, `TIMEOUT`, in its place.
    pub fn lose_reply(&self, function: &str) -> Striking<'a> {
        self.add("lose_reply", json!({"function": function}))
    }

    /// The call is made, then the connection of its caller breaks.
    pub fn drop_connection(&self, function: &str) -> Striking<'a> {
        self.add("drop_connection", json!({"function": function}))
    }

    /// The connections of all workers break now; gives how many.
    #[track_caller]
    pub fn drop_connections(&self) -> u64 {
        self.add("drop_connection", json!({}))
            .now()
            .as_u64()
            .expect("a count")
    }

    /// As soon as such a call was made, the engine ends and starts again with the same ports and data.
    pub fn restart_at(&self, function: &str) -> Striking<'a> {
        self.add("restart", json!({"function": function}))
    }

    /// The engine ends and starts again now; it is up when this returns, workers come a little later.
    #[track_caller]
    pub fn restart(&self) {
        self.add("restart", json!({})).now();
    }

    /// The write is refused as on a full disk; a store of this engine alone stops, and the engine restarts.
    pub fn disk_full(&self, function: &str) -> Striking<'a> {
        self.add("disk_full", json!({"function": function}))
    }

    /// The call is made, and answered so much later; calls for the same key wait behind it.
    pub fn slow_store(&self, function: &str, time: Duration) -> Striking<'a> {
        self.add(
            "slow_store",
            json!({"function": function, "seconds": time.as_secs_f64()}),
        )
    }

    /// Any fault that the host knows, by its name and arguments in the control protocol.
    pub fn add(&self, kind: &'a str, asked: Value) -> Striking<'a> {
        Striking {
            control: self.0,
            kind,
            asked,
        }
    }

    /// Nothing goes wrong any more.
    #[track_caller]
    pub fn clear(&self) {
        self.0.ask("faults/clear", &json!({}))
    }
}

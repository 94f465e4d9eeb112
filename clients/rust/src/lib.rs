#![doc = include_str!("../README.md")]
#![warn(missing_docs)]

mod calls;
mod clock;
mod control;
mod engine;
mod events;
mod faults;
mod host;
mod http;
mod output;
mod state;
mod worker;

pub use calls::{Call, CallError, CallFilter, Calls, called};
pub use clock::Clock;
pub use engine::{Engine, Options, Ready};
pub use events::{Event, EventFilter, Events, event};
pub use faults::{Fault, Faults, Striking};
pub use http::{Http, Reply};
pub use serde_json::{Value, json};
pub use state::{Snapshot, State};
pub use worker::{Program, Worker};

//! The control port of a host: every request is a POST of JSON, values pass as they are.

use std::sync::Arc;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use ureq::Agent;

/// The code where no answer came.
pub(crate) const LOST: &str = "ENGINE_LOST";

const BEFORE: &str = "{\"result\":";

/// Why a request was not answered with a result.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Refused {
    pub(crate) code: String,
    pub(crate) message: String,
}

#[derive(Deserialize)]
struct Problem {
    error: Refused,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Address {
    pub(crate) url: String,
    pub(crate) token: String,
    pub(crate) protocol: u64,
}

/// The port, or one engine of it.
#[derive(Clone)]
pub(crate) struct Control {
    agent: Agent,
    address: Arc<Address>,
    path: String,
}

impl Control {
    pub(crate) fn new(address: Address) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .build();
        Control {
            agent: config.into(),
            address: address.into(),
            path: "/engines".into(),
        }
    }

    /// The verbs of one engine.
    pub(crate) fn engine(&self, number: &str) -> Self {
        Control {
            path: format!("/engines/{number}"),
            ..self.clone()
        }
    }

    /// The encoded result; None where there is none. `asked` is encoded JSON.
    pub(crate) fn try_text(&self, verb: &str, asked: &str) -> Result<Option<String>, Refused> {
        let slash = if verb.is_empty() { "" } else { "/" };
        let url = format!("{}{}{slash}{verb}", self.address.url, self.path);
        let request = self
            .agent
            .post(&url)
            .header("authorization", format!("Bearer {}", self.address.token));
        let lost = |error: ureq::Error| Refused {
            code: LOST.into(),
            message: format!("the host of the engines does not answer: {error}"),
        };
        let mut answer = request
            .content_type("application/json")
            .send(asked.as_bytes())
            .map_err(lost)?;
        let body = answer
            .body_mut()
            .with_config()
            .limit(u64::MAX)
            .read_to_vec()
            .map_err(lost)?;
        let text = String::from_utf8(body).expect("the control port answers in UTF-8");
        if answer.status() == 200 {
            return Ok(text
                .strip_prefix(BEFORE)
                .map(|rest| rest[..rest.len() - 1].to_owned()));
        }
        Err(serde_json::from_str::<Problem>(&text)
            .unwrap_or_else(|_| panic!("{verb} answered {}: {text}", answer.status()))
            .error)
    }

    /// The decoded result.
    pub(crate) fn try_ask<T: DeserializeOwned>(&self, verb: &str, asked: &Value) -> Result<T, Refused> {
        let text = self
            .try_text(verb, &present(asked))?
            .unwrap_or_else(|| "null".into());
        Ok(serde_json::from_str(&text).unwrap_or_else(|error| panic!("{verb} answered {text}: {error}")))
    }

    /// The decoded result; the test fails where there is none.
    #[track_caller]
    pub(crate) fn ask<T: DeserializeOwned>(&self, verb: &str, asked: &Value) -> T {
        told(self.try_ask(verb, asked))
    }

    /// The encoded result; the test fails where the request is refused.
    #[track_caller]
    pub(crate) fn text(&self, verb: &str, asked: &str) -> Option<String> {
        told(self.try_text(verb, asked))
    }
}

/// The result, or a failed test that says why there is none.
#[track_caller]
pub(crate) fn told<T>(result: Result<T, Refused>) -> T {
    match result {
        Ok(value) => value,
        Err(Refused { code, message }) => match code.as_str() {
            // What was expected did not come true.
            "NOT_FULFILLED" | "NOT_SETTLED" | "WORKER_FAILED" => panic!("{message}"),
            _ => panic!("{code}: {message}"),
        },
    }
}

/// The members that are not null, encoded: what is left out has its default.
fn present(asked: &Value) -> String {
    let members = asked
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(_, value)| !value.is_null());
    let kept: serde_json::Map<String, Value> = members
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    Value::from(kept).to_string()
}

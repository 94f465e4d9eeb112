//! Http: requests to the routes of workers, and what must come back.

use std::time::Duration;

use serde_json::Value;
use ureq::Agent;
use ureq::http::Request;

const SHOWN: usize = 2000;
const SILENCE: Duration = Duration::from_secs(30);

/// What came back.
#[derive(Debug, Clone)]
pub struct Reply {
    request: String,
    /// The status of the answer; any is one.
    pub status: u16,
    /// Names are in lower case.
    pub headers: Vec<(String, String)>,
    /// The body as it came.
    pub body: Vec<u8>,
}

impl Reply {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The decoded body.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| {
            panic!(
                "{} answered {}, which is no JSON: {error}",
                self.request,
                self.shown()
            )
        })
    }

    /// The value of a header, by its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(one, _)| one == name)
            .map(|(_, value)| value.as_str())
    }

    /// This reply, when status and body are as expected; else the test fails with all of it.
    #[track_caller]
    pub fn expect(self, status: u16, json: Value) -> Self {
        let reply = self.expect_status(status);
        let found = reply.json();
        assert!(
            found == json,
            "{} answered {}, expected {json}",
            reply.request,
            reply.shown()
        );
        reply
    }

    /// This reply, when its status is as expected; else the test fails with all of it.
    #[track_caller]
    pub fn expect_status(self, status: u16) -> Self {
        let Reply {
            request,
            status: found,
            ..
        } = &self;
        assert!(
            *found == status,
            "{request} answered {found}, expected {status}: {}",
            self.shown()
        );
        self
    }

    fn shown(&self) -> String {
        self.text().chars().take(SHOWN).collect()
    }
}

/// Each request has a connection of its own.
pub struct Http<'a>(pub(crate) &'a str);

impl Http<'_> {
    /// GET.
    #[track_caller]
    pub fn get(&self, path: &str) -> Reply {
        self.request("GET", path, &[], None)
    }

    /// POST with a JSON body.
    #[track_caller]
    pub fn post(&self, path: &str, json: Value) -> Reply {
        self.json("POST", path, &json)
    }

    /// PUT with a JSON body.
    #[track_caller]
    pub fn put(&self, path: &str, json: Value) -> Reply {
        self.json("PUT", path, &json)
    }

    /// PATCH with a JSON body.
    #[track_caller]
    pub fn patch(&self, path: &str, json: Value) -> Reply {
        self.json("PATCH", path, &json)
    }

    /// DELETE.
    #[track_caller]
    pub fn delete(&self, path: &str) -> Reply {
        self.request("DELETE", path, &[], None)
    }

    /// Any request; the test fails when no answer comes.
    #[track_caller]
    pub fn request(&self, method: &str, path: &str, headers: &[(&str, &str)], body: Option<&[u8]>) -> Reply {
        let asked = format!("{method} {path}");
        self.sent(method, path, headers, body)
            .map(|reply| Reply {
                request: asked.clone(),
                ..reply
            })
            .unwrap_or_else(|error| panic!("{asked} has no answer: {error}"))
    }

    #[track_caller]
    fn json(&self, method: &str, path: &str, json: &Value) -> Reply {
        let body = json.to_string();
        self.request(
            method,
            path,
            &[("content-type", "application/json")],
            Some(body.as_bytes()),
        )
    }

    fn sent(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&[u8]>,
    ) -> Result<Reply, ureq::Error> {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_idle_connections(0)
            .timeout_recv_response(Some(SILENCE))
            .allow_non_standard_methods(true);
        let agent: Agent = config.build().into();
        let mut builder = Request::builder().method(method).uri(format!("{}{path}", self.0));
        for (name, value) in headers {
            builder = builder.header(*name, *value);
        }
        let mut answer = match body {
            Some(body) => agent.run(builder.body(body)?),
            None => agent.run(builder.body(())?),
        }?;
        let found = answer.headers().iter();
        let headers = found
            .map(|(name, value)| {
                (
                    name.to_string(),
                    String::from_utf8_lossy(value.as_bytes()).into_owned(),
                )
            })
            .collect();
        let body = answer.body_mut().with_config().limit(u64::MAX).read_to_vec()?;
        Ok(Reply {
            request: String::new(),
            status: answer.status().as_u16(),
            headers,
            body,
        })
    }
}

//! Engine: a fresh engine of a test, on free ports, with all that a test asks of it.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::calls::{CallError, Calls};
use crate::clock::Clock;
use crate::control::{Control, LOST, Refused, told};
use crate::events::Events;
use crate::faults::Faults;
use crate::host;
use crate::http::Http;
use crate::state::State;
use crate::worker::{Program, Worker};

/// What an engine runs; the default keeps state in memory.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// `memory`, `file` (a directory of its own), `redis`, …
    pub adapter: Option<String>,
    /// Settings of the adapter; `{unique}` in them makes a store of its own, which is removed at the end.
    pub adapter_config: Option<Value>,
    /// The path of an iii-config.yaml.
    pub config: Option<PathBuf>,
}

/// What is waited for until a worker is ready.
#[derive(Debug, Clone)]
pub struct Ready {
    /// These; without them a worker is ready when it has registered something and rests.
    pub functions: Option<Vec<String>>,
    /// For so long.
    pub within: Duration,
}

impl Default for Ready {
    fn default() -> Self {
        Ready {
            functions: None,
            within: Duration::from_secs(30),
        }
    }
}

/// A fresh engine. Its methods block, and fail the test when something is not as asked.
///
/// When the test fails it says what happened in the engine. It ends, with its workers, when it is dropped.
pub struct Engine {
    control: Control,
    url: String,
    http_url: Option<String>,
    workers: Mutex<Vec<Worker>>,
}

#[derive(Deserialize)]
struct Told {
    engine: String,
    url: String,
    http_url: Option<String>,
}

impl Engine {
    /// Start a fresh engine; takes some milliseconds, the first one of a process some hundred.
    #[track_caller]
    pub fn start() -> Self {
        Engine::with(Options::default())
    }

    /// The same with another store or configuration.
    #[track_caller]
    pub fn with(options: Options) -> Self {
        let asked = json!({
            "adapter": options.adapter,
            "adapter_config": options.adapter_config,
            "config": options.config,
        });
        let mut control = host::control();
        let mut answer = control.try_ask("", &asked);
        if answer
            .as_ref()
            .is_err_and(|refused: &Refused| refused.code == LOST)
        {
            // A host that has ended since the last engine is started again.
            thread::sleep(Duration::from_millis(200));
            control = host::control();
            answer = control.try_ask("", &asked);
        }
        let Told {
            engine,
            url,
            http_url,
        } = told(answer);
        Engine {
            control: control.engine(&engine),
            url,
            http_url,
            workers: Mutex::default(),
        }
    }

    /// Where workers connect: III_URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Where HTTP clients connect.
    #[track_caller]
    pub fn http_url(&self) -> &str {
        self.http_url
            .as_deref()
            .expect("this engine has no HTTP port: its configuration lists no iii-http")
    }

    /// What a test puts into state, and finds there.
    pub fn state(&self) -> State<'_> {
        State(&self.control)
    }

    /// Requests to the routes of workers.
    #[track_caller]
    pub fn http(&self) -> Http<'_> {
        Http(self.http_url())
    }

    /// The changes of state.
    pub fn events(&self) -> Events<'_> {
        Events(&self.control)
    }

    /// The calls of functions.
    pub fn calls(&self) -> Calls<'_> {
        Calls(&self.control)
    }

    /// What goes wrong on demand.
    pub fn faults(&self) -> Faults<'_> {
        Faults(&self.control)
    }

    /// The engine's time.
    pub fn clock(&self) -> Clock<'_> {
        Clock(&self.control)
    }

    /// The result of a function, as a worker that calls it gets it; `T` is `Value`, or any type that fits.
    pub fn call<T: DeserializeOwned>(&self, function: &str, payload: Value) -> Result<T, CallError> {
        Ok(self
            .control
            .try_ask("call", &json!({"function": function, "payload": payload}))?)
    }

    /// Start a worker and wait until its functions are registered; the test fails with what it wrote when it
    /// ends before. `env!("CARGO_BIN_EXE_NAME")` is the program of the package that is tested.
    #[track_caller]
    pub fn worker(&self, program: impl Into<Program>) -> Worker {
        self.worker_when(program, Ready::default())
    }

    /// The same, and what is waited for.
    #[track_caller]
    pub fn worker_when(&self, program: impl Into<Program>, ready: Ready) -> Worker {
        let before = self.functions();
        let mut environment = vec![
            ("III_URL", self.url.as_str()),
            ("III_ENGINE_URL", self.url.as_str()),
        ];
        environment.extend(self.http_url.as_deref().map(|url| ("III_HTTP", url)));
        let mut worker = Worker::start(program.into(), &environment);
        self.started().push(worker.clone());
        let asked = json!({
            "name": worker.title,
            "pid": worker.pid,
            "before": before,
            "functions": ready.functions,
            "within": ready.within.as_secs_f64(),
        });
        match self.control.try_ask("ready", &asked) {
            Ok(functions) => worker.functions = functions,
            Err(Refused { message, .. }) => {
                let end = worker.ended().map_or(String::new(), |code| format!(" ({code})"));
                worker.kill();
                let output = worker.output();
                let said = if output.trim().is_empty() {
                    "(nothing)"
                } else {
                    output.trim_end()
                };
                panic!(
                    "{}{end}.\n--- its output ---\n{said}",
                    message.trim_end_matches('.')
                );
            }
        }
        worker
    }

    /// Wait until these functions are registered, as by a client of the SDK inside the test.
    #[track_caller]
    pub fn ready(&self, functions: &[&str]) {
        self.control
            .ask::<Vec<String>>("ready", &json!({"functions": functions}));
    }

    /// The ids of the functions that workers have registered.
    #[track_caller]
    pub fn functions(&self) -> Vec<String> {
        self.control.ask("functions", &json!({}))
    }

    /// Wait until no call is in flight, no event undelivered and no worker computes, at most 10 seconds; the
    /// test fails otherwise, and says what is left.
    #[track_caller]
    pub fn settle(&self) {
        self.settle_within(Duration::from_secs(10));
    }

    /// The same, with another time.
    #[track_caller]
    pub fn settle_within(&self, time: Duration) {
        told(
            self.control
                .try_ask("settle", &json!({"within": time.as_secs_f64()})),
        )
    }

    /// All that happened: calls, events, workers, faults, one JSON object a line.
    #[track_caller]
    pub fn transcript(&self) -> String {
        self.control.ask("transcript", &json!({}))
    }

    /// The end of that for people, and what the workers wrote.
    pub fn report(&self) -> String {
        let happened = self.control.try_ask("report", &json!({}));
        let happened = happened.unwrap_or_else(|Refused { message, .. }| message);
        let mut sections = vec![("iii engine".to_owned(), happened)];
        for worker in self.started().iter() {
            let end = worker
                .ended()
                .map_or(String::new(), |code| format!(", ended ({code})"));
            sections.push((format!("worker {}{end}", worker.title), worker.output()));
        }
        let told = sections.into_iter().filter(|(_, text)| !text.is_empty());
        told.map(|(title, text)| format!("--- {title} ---\n{}\n", text.trim_end()))
            .collect()
    }

    fn started(&self) -> std::sync::MutexGuard<'_, Vec<Worker>> {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if thread::panicking() {
            eprint!("{}", self.report());
        }
        let workers: Vec<_> = self.started().drain(..).rev().collect();
        for worker in workers {
            worker.stop();
        }
        // A host that is gone has closed it.
        let _ = self.control.try_text("close", "{}");
    }
}

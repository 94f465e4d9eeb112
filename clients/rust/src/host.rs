//! The process that runs engines: `iii-skill serve --control`, one for all engines of this process.

use std::env;
use std::io::{self, BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use serde::Deserialize;

use crate::control::{Address, Control};
use crate::output::Output;

const PROTOCOL: u64 = 1;
const START: Duration = Duration::from_secs(180);
/// Hands a running host on to the processes that this one starts.
const CONTROL_VARIABLE: &str = "III_SKILL_CONTROL";

struct Host {
    control: Control,
    /// None for one that was handed on. It ends with this process: the end of its stdin tells it.
    process: Option<Child>,
}

#[derive(Deserialize)]
struct ReadyLine {
    control: Option<Address>,
}

static HOST: Mutex<Option<Host>> = Mutex::new(None);

/// The control port of the host of this process, which is started when there is none.
pub(crate) fn control() -> Control {
    let mut place = HOST.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(host) = place.as_mut() {
        let ended = host
            .process
            .as_mut()
            .is_some_and(|process| process.try_wait().is_ok_and(|code| code.is_some()));
        if !ended {
            return host.control.clone();
        }
    }
    let host = match env::var(CONTROL_VARIABLE) {
        Ok(line) => Host {
            control: control_of(&line),
            process: None,
        },
        Err(_) => start(),
    };
    let control = host.control.clone();
    *place = Some(host);
    control
}

fn start() -> Host {
    let commands = host_commands();
    for command in &commands {
        match spawn(command) {
            Ok(process) => return wait(process, command),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => panic!("{} cannot be started: {error}", command[0]),
        }
    }
    let tried: Vec<_> = commands.iter().map(|command| command[0].as_str()).collect();
    panic!(
        "No engine: {} cannot be started. Install iii-skill or uv (https://docs.astral.sh/uv), \
         or set III_SKILL to the command that runs it.",
        tried.join(" and ")
    );
}

fn spawn(command: &[String]) -> io::Result<Child> {
    Command::new(&command[0])
        .args(&command[1..])
        .args([
            "serve",
            "--control",
            "--adapter",
            "memory",
            "--port",
            "0",
            "--http-port",
            "0",
        ])
        .args(["--log-level", "warning", "--ready-json", "--until-eof"])
        // Engines of tests are on loopback alone and want no token.
        .env_remove("III_SKILL_TOKEN")
        .env_remove("III_SKILL_TOKEN_FILE")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
}

fn wait(mut process: Child, command: &[String]) -> Host {
    let errors = Output::default();
    let reader = errors.read(process.stderr.take());
    let stdout = process.stdout.take().expect("it is piped");
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut lines = BufReader::new(stdout).lines();
        let _ = sender.send(lines.next());
        lines.for_each(drop);
    });
    let program = command.join(" ");
    match receiver.recv_timeout(START) {
        Ok(Some(Ok(line))) => Host {
            control: control_of(&line),
            process: Some(process),
        },
        Ok(_) => {
            let code = process
                .wait()
                .map_or_else(|error| error.to_string(), |code| code.to_string());
            let _ = reader.map(thread::JoinHandle::join);
            panic!("{program} ended ({code}): {}", errors.text().trim());
        }
        Err(_) => {
            let _ = process.kill();
            panic!("{program} was not ready in {START:?}: {}", errors.text().trim());
        }
    }
}

fn control_of(line: &str) -> Control {
    let ready: ReadyLine =
        serde_json::from_str(line).unwrap_or_else(|error| panic!("the host said {line}: {error}"));
    match ready.control {
        Some(address) if address.protocol == PROTOCOL => Control::new(address),
        other => panic!(
            "iii-skill-test {} speaks control protocol {PROTOCOL}, this iii-skill {}: \
             install versions that belong together.",
            env!("CARGO_PKG_VERSION"),
            other.map_or("none".into(), |address| address.protocol.to_string()),
        ),
    }
}

/// The commands to try: III_SKILL, or `iii-skill` from the PATH and else the same version out of uv.
fn host_commands() -> Vec<Vec<String>> {
    match env::var("III_SKILL") {
        Ok(given) if !given.trim().is_empty() => vec![words(&given)],
        _ => vec![
            vec!["iii-skill".into()],
            vec!["uvx".into(), format!("iii-skill@{}", env!("CARGO_PKG_VERSION"))],
        ],
    }
}

/// The words of a command: a file is one word, else blanks part them; quotes hold a word together.
fn words(command: &str) -> Vec<String> {
    if Path::new(command).exists() {
        return vec![command.into()];
    }
    let mut found = vec![];
    let mut word: Option<String> = None;
    let mut quote = None;
    for letter in command.chars() {
        match quote {
            Some(open) if letter == open => quote = None,
            None if letter == '"' || letter == '\'' => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            None if letter.is_whitespace() => found.extend(word.take()),
            _ => word.get_or_insert_default().push(letter),
        }
    }
    found.extend(word);
    found
}

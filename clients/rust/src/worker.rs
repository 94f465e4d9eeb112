//! Workers in processes of their own.

use std::ffi::OsStr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::output::Output;

const STOP: Duration = Duration::from_secs(10);

/// What runs a file with this ending.
const RUNNERS: [(&str, &[&str]); 6] = [
    ("js", &["node"]),
    ("mjs", &["node"]),
    ("cjs", &["node"]),
    ("ts", &["npx", "tsx"]),
    ("mts", &["npx", "tsx"]),
    ("py", &["python3"]),
];

/// How a worker is started: out of a program's path, or a [`Command`] with arguments and environment.
pub struct Program(pub(crate) Command);

impl From<Command> for Program {
    fn from(command: Command) -> Self {
        Program(command)
    }
}

impl From<&Path> for Program {
    fn from(path: &Path) -> Self {
        if path.is_dir() && path.join("Cargo.toml").exists() {
            let mut command = Command::new("cargo");
            command
                .args(["run", "--quiet", "--manifest-path"])
                .arg(path.join("Cargo.toml"));
            return Program(command);
        }
        let ending = path.extension().and_then(OsStr::to_str).unwrap_or_default();
        match RUNNERS.iter().find(|(known, _)| *known == ending) {
            Some((_, runner)) => {
                let place = std::env::current_dir().unwrap_or_default();
                assert!(
                    path.exists(),
                    "There is no worker {} in {}.",
                    path.display(),
                    place.display()
                );
                let mut command = Command::new(runner[0]);
                command.args(&runner[1..]).arg(path);
                Program(command)
            }
            None => Program(Command::new(path)),
        }
    }
}

impl From<&str> for Program {
    fn from(path: &str) -> Self {
        Path::new(path).into()
    }
}

impl From<PathBuf> for Program {
    fn from(path: PathBuf) -> Self {
        path.as_path().into()
    }
}

/// A worker that has registered its functions. It ends with its engine.
#[derive(Clone)]
pub struct Worker {
    /// The ids of what it registered.
    pub functions: Vec<String>,
    /// Its process id.
    pub pid: u32,
    pub(crate) title: String,
    output: Output,
    process: Arc<Mutex<Running>>,
}

struct Running {
    child: Child,
    /// Its process id may be another's by now.
    gone: bool,
    readers: Vec<JoinHandle<()>>,
}

impl Worker {
    #[track_caller]
    pub(crate) fn start(Program(mut command): Program, environment: &[(&str, &str)]) -> Self {
        let program = command.get_program().to_string_lossy().into_owned();
        let arguments = command
            .get_args()
            .map(|one| format!(" {}", one.to_string_lossy()));
        let title = program.clone() + &arguments.collect::<String>();
        let own: Vec<_> = command
            .get_envs()
            .map(|(name, value)| (name.to_owned(), value.map(OsStr::to_owned)))
            .collect();
        command
            .env("OTEL_ENABLED", "false")
            .env("PYTHONUNBUFFERED", "1")
            .envs(environment.iter().copied());
        for (name, value) in own {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        let mut child = command
            .spawn()
            .unwrap_or_else(|error| panic!("{title} cannot be started: {error}"));
        let output = Output::default();
        let readers = [output.read(child.stdout.take()), output.read(child.stderr.take())];
        Worker {
            functions: vec![],
            pid: child.id(),
            title,
            output,
            process: Arc::new(Mutex::new(Running {
                child,
                gone: false,
                readers: readers.into_iter().flatten().collect(),
            })),
        }
    }

    /// What it has written to stdout and stderr, at most the last 64 KiB.
    pub fn output(&self) -> String {
        self.output.text()
    }

    /// How it ended; None while it runs.
    pub fn ended(&self) -> Option<ExitStatus> {
        self.running().child.try_wait().ok().flatten()
    }

    /// SIGTERM, and SIGKILL when that does not end it within 10 seconds. Safe to call twice.
    pub fn stop(&self) -> ExitStatus {
        self.signal(libc::SIGTERM);
        let deadline = Instant::now() + STOP;
        while self.ended().is_none() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(2));
        }
        self.kill()
    }

    /// SIGKILL, as a crash, to it and what it started.
    pub fn kill(&self) -> ExitStatus {
        self.signal(libc::SIGKILL);
        let mut running = self.running();
        let code = running.child.wait().expect("it was started");
        running.gone = true;
        // What it wrote is complete then.
        running.readers.drain(..).for_each(|reader| drop(reader.join()));
        code
    }

    fn signal(&self, number: libc::c_int) {
        if !self.running().gone {
            // SAFETY: a system call that touches no memory.
            unsafe { libc::kill(-(self.pid as libc::pid_t), number) };
        }
    }

    fn running(&self) -> MutexGuard<'_, Running> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

//! What a process writes, of which the end is kept.

use std::io::Read;
use std::sync::{Arc, Mutex};
use std::thread;

const KEPT: usize = 64 * 1024;

#[derive(Clone, Default)]
pub(crate) struct Output(Arc<Mutex<Vec<u8>>>);

impl Output {
    /// Read a stream to its end, on a thread of its own.
    pub(crate) fn read(&self, stream: Option<impl Read + Send + 'static>) -> Option<thread::JoinHandle<()>> {
        let kept = Arc::clone(&self.0);
        let mut stream = stream?;
        Some(thread::spawn(move || {
            let mut part = [0; 8192];
            while let Ok(size) = stream.read(&mut part) {
                if size == 0 {
                    return;
                }
                let mut kept = kept.lock().expect("nobody panics while writing");
                kept.extend_from_slice(&part[..size]);
                let surplus = kept.len().saturating_sub(KEPT);
                kept.drain(..surplus);
            }
        }))
    }

    /// At most the last 64 KiB.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().expect("nobody panics while writing")).into_owned()
    }
}

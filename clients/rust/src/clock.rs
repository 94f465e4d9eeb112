//! The engine's time, by which schedules, retries and expiries go; it only moves forward.

use std::time::{Duration, SystemTime};

use serde_json::json;

use crate::control::Control;

/// The clock of an engine.
pub struct Clock<'a>(pub(crate) &'a Control);

impl Clock<'_> {
    /// What time it is there.
    #[track_caller]
    pub fn now(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs_f64(self.0.ask("clock/now", &json!({})))
    }

    /// Move it forward; what is due by then has begun when this returns. A schedule whose handler still runs
    /// misses the moment: settle before.
    #[track_caller]
    pub fn advance(&self, time: Duration) {
        self.0
            .ask("clock/advance", &json!({"seconds": time.as_secs_f64()}))
    }
}

//! Progress on a terminal, and nothing anywhere else.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::cli;
use crate::units;

/// A bar on the standard error, over one phase or several.
pub struct Progress {
    bar: ProgressBar,
    begun: Instant,
    /// Nanoseconds of the phases before the present one.
    done: u64,
}

impl Progress {
    /// A bar for `total` nanoseconds.
    pub fn new(when: cli::Progress, total: u64) -> Progress {
        let target = match when {
            // Hidden by itself where the standard error is no terminal.
            cli::Progress::Auto => ProgressDrawTarget::stderr_with_hz(10),
            cli::Progress::Never => ProgressDrawTarget::hidden(),
        };
        let bar = ProgressBar::with_draw_target(Some(total), target);
        let style = ProgressStyle::with_template("{prefix} [{bar:30}] {msg}").expect("the template is a constant");
        bar.set_style(style.progress_chars("=> "));
        Progress { bar, begun: Instant::now(), done: 0 }
    }

    /// Corrects the total, in nanoseconds.
    pub fn plan(&self, total: u64) {
        self.bar.set_length(total);
    }

    /// Begins a phase, with `done` nanoseconds of others behind it.
    pub fn begin(&mut self, phase: String, done: u64) {
        self.bar.set_prefix(phase);
        self.done = done;
    }

    /// Shows how far the phase is: nanoseconds passed, requests completed.
    pub fn show(&self, passed: u64, completed: u64) {
        if self.bar.is_hidden() {
            return;
        }
        let total = self.bar.length().unwrap_or(0);
        let position = (self.done + passed).min(total);
        self.bar.set_position(position);
        self.bar.set_message(format!(
            "{}, {} completed",
            left(self.begun.elapsed(), position as f64 / total.max(1) as f64),
            units::count(completed)
        ));
    }

    /// Writes a line above the bar.
    pub fn suspend<T>(&self, write: impl FnOnce() -> T) -> T {
        self.bar.suspend(write)
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// The time that is left when `share` of the whole took so long. What is planned is less than what it takes, by the
/// starts and ends of phases: the rest takes longer in the same proportion.
fn left(elapsed: Duration, share: f64) -> String {
    if share < 0.001 {
        return "time left unknown".into();
    }
    let seconds = (elapsed.as_secs_f64() * (1.0 - share) / share).ceil() as u64;
    match seconds {
        0..60 => format!("{seconds}s left"),
        _ => format!("{}m {:02}s left", seconds / 60, seconds % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_left() {
        let after = |seconds, share| left(Duration::from_secs(seconds), share);
        assert_eq!(after(10, 0.5), "10s left");
        assert_eq!(after(10, 0.1), "1m 30s left");
        assert_eq!(after(30, 0.01), "49m 30s left");
        assert_eq!(after(10, 1.0), "0s left");
        assert_eq!(after(0, 0.0), "time left unknown");
    }
}

//! Progress on a terminal, and nothing anywhere else.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::cli;
use crate::units;

/// A bar on the standard error.
pub struct Progress {
    bar: ProgressBar,
}

impl Progress {
    /// A bar for a phase that takes `total` nanoseconds.
    pub fn new(when: cli::Progress, phase: &'static str, total: u64) -> Progress {
        let target = match when {
            // Hidden by itself where the standard error is no terminal.
            cli::Progress::Auto => ProgressDrawTarget::stderr_with_hz(10),
            cli::Progress::Never => ProgressDrawTarget::hidden(),
        };
        let bar = ProgressBar::with_draw_target(Some(total), target);
        let style = ProgressStyle::with_template("{prefix} [{bar:30}] {msg}").expect("the template is a constant");
        bar.set_style(style.progress_chars("=> "));
        bar.set_prefix(phase);
        Progress { bar }
    }

    /// Shows how far it is: nanoseconds passed, requests completed.
    pub fn show(&self, passed: u64, completed: u64) {
        if self.bar.is_hidden() {
            return;
        }
        let total = self.bar.length().unwrap_or(0);
        let seconds = |ns| Duration::from_nanos(ns).as_secs_f64();
        self.bar.set_position(passed.min(total));
        self.bar.set_message(format!(
            "{:.1}s of {:.1}s, {} completed",
            seconds(passed.min(total)),
            seconds(total),
            units::count(completed)
        ));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
